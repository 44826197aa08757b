from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from lightgen.disk.config import from_dict, load, override, save


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 4
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    rate: float = 0.5
    flag: bool = False
    sizes: tuple[int, ...] = (1, 2)
    folder: Path | None = None
    inner: Inner = field(default_factory=Inner)


FULL = Outer(name="x", rate=0.25, flag=True, sizes=(3,), folder=Path("data/a"), inner=Inner(width=8, kind="b"))


def test_a_saved_config_is_the_same_config(tmp_path):
    for config in (Outer(name="x"), FULL):
        save(config, tmp_path / "config.json")
        assert load(Outer, tmp_path / "config.json") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_overrides_reach_nested_fields_and_leave_the_original():
    changed = override(FULL, {"rate": 1, "inner.width": 16, "inner.kind": "a"})
    assert changed.rate == 1.0 and changed.inner == Inner(width=16, kind="a")
    assert FULL.inner.width == 8
    assert override(FULL, {}) == FULL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": 3}, "unknown name widht in Outer; valid names: name, rate"),
        ({"inner.depth": 3}, "unknown name depth in Outer.inner; valid names: width, kind"),
        ({"rate": "fast"}, "rate in Outer is 'fast', expected float"),
        ({"flag": 1}, "flag in Outer is 1, expected bool"),
        ({"inner.width": True}, "expected int"),
        ({"inner.width": 2.5}, "expected int"),
        ({"inner.kind": "c"}, "valid choices: 'a', 'b'"),
        ({"rate.x": 1}, "plain value"),
        ({"sizes": [1, "2"]}, "sizes in Outer"),
    ],
)
def test_unknown_names_and_wrong_types_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        override(FULL, changes)


def test_files_that_are_no_config_are_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"name": "x"')
    with pytest.raises(ValueError, match="no JSON that is read here"):
        load(Outer, path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match="expected one JSON object"):
        load(Outer, path)
    with pytest.raises(ValueError, match="lacks name of Outer"):
        from_dict(Outer, {})
