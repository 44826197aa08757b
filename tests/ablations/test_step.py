"""What a key holds: settings that are not at their default, steps before, contents of folders; nothing of speed."""

import dataclasses
import io
import tarfile
from dataclasses import dataclass, field

import pytest

from ablations.recipes import trained
from ablations.runner.step import Folder, Step, in_order, numbered
from ablations.settings import SETTINGS
from lightgen.disk.config import override


@dataclass(frozen=True, kw_only=True)
class Options:
    size: int = 1
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True, kw_only=True)
class First(Step):
    count: int
    options: Options = field(default_factory=Options)
    weights: Folder | None = None


@dataclass(frozen=True, kw_only=True)
class Second(Step):
    before: First
    also: tuple[First, ...] = ()


def later(cls, name="First", **fields):
    """The class as it might look in a later version of the code."""
    made = [(key, type(value), field(default=value)) for key, value in fields.items()]
    return dataclasses.make_dataclass(name, made, bases=(cls,), frozen=True, kw_only=True)


def test_a_new_field_at_its_neutral_default_changes_no_key():
    newer = later(First, choice=0)
    assert newer(count=3).key == First(count=3).key
    assert newer(count=3, choice=1).key != First(count=3).key


def test_a_nested_setting_a_version_a_name_and_a_step_before_change_the_key():
    first = First(count=3)
    assert First(count=3, options=Options(size=2)).key != first.key
    newer = later(First)
    newer.version = 2
    assert newer(count=3).key != first.key
    assert later(First, name="Other")(count=3).key != first.key
    assert Second(before=First(count=4)).key != Second(before=first).key
    assert Second(before=first, also=(First(count=4),)).key != Second(before=first).key


def test_a_folder_counts_by_what_it_holds_and_never_by_where_it_lies(tmp_path):
    for name, data in (("a", b"weights"), ("b", b"weights"), ("c", b"others")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(data)
    a, b, c = (First(count=1, weights=Folder(str(tmp_path / name))).key for name in "abc")
    assert a == b != c
    (tmp_path / "a" / "model.safetensors").write_bytes(b"changed behind the same path")
    assert First(count=1, weights=Folder(str(tmp_path / "a"))).key != a
    with pytest.raises(FileNotFoundError, match="is not there"):
        _ = Folder(str(tmp_path / "d")).identity


def test_a_data_set_counts_by_its_manifest_and_without_one_by_its_shards(tmp_path):
    def shard(content):
        member = tarfile.TarInfo("0.jpg")
        member.size = len(content)
        with tarfile.open(tmp_path / "data_000000.tar", "w") as file:
            file.addfile(member, io.BytesIO(content))

    shard(b"pictures")
    found = [Folder(str(tmp_path)).identity]
    shard(b"others!!")
    found.append(Folder(str(tmp_path)).identity)
    (tmp_path / "manifest.json").write_text('{"shards": 1}')
    found.append(Folder(str(tmp_path)).identity)
    (tmp_path / "manifest.json").write_text('{"shards": 2}')
    found.append(Folder(str(tmp_path)).identity)
    assert len(set(found)) == 4


def test_a_path_can_be_no_part_of_a_key(tmp_path):
    with pytest.raises(TypeError, match="given as Folder"):
        _ = later(First, where=tmp_path)(count=1, where=tmp_path / "x").key


def test_nothing_in_runtime_changes_a_key():
    setting = SETTINGS["cpu"]
    changes = {"runtime.device": "cpu", "runtime.generate_batch": 1, "runtime.save_every_seconds": 5.0}
    changes |= {"runtime.compile": True, "runtime.log_every": 1, "runtime.encode_batch": 2, "runtime.detect_batch": 3}
    other = override(
        setting,
        changes | {"runtime.cells_per_gpu": 2, "runtime.processes": 2, "runtime.threads": 3, "runtime.track": "wandb"},
    )
    assert set(dataclasses.asdict(other.runtime).items()).isdisjoint(dataclasses.asdict(setting.runtime).items())
    assert trained(other, 0).key == trained(setting, 0).key


def test_steps_come_after_those_that_they_need_and_are_told_apart_by_number():
    first, other = First(count=1), First(count=2)
    second = Second(before=first, also=(other,))
    assert in_order([second, first]) == [first, other, second]
    assert list(numbered([first, other, second])) == ["first", "first_2", "second"]
    assert second.folder == f"second-{second.key[:16]}"
