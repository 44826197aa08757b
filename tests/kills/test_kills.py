"""SIGKILL at any moment of any command that writes: the same command again gives the bytes of an undisturbed run, and
no temporary file is left."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from PIL import Image
from tqdm import tqdm

from tests.damage import commands, formats
from tests.damage.networks import sizes

STUDY = Path(__file__).parents[1] / "ablations/counting_study.py"
TEMPORARY = re.compile(r"\..*(\.part|\.tmp|\.\d+)|.*\.partial|\.owner")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
STUDY_SHARE = 10  # one kill in so many is of a whole study: its driver, a worker, or both


@dataclass(frozen=True)
class Writer:
    """A command that writes OUT; `same` are the globs of files without times in them."""

    name: str
    program: str
    argv: str
    same: tuple[str, ...]
    given: tuple[str, ...] = ()  # folders under ROOT that lie in OUT before, as the command writes into them

    def words(self, root: Path, out: Path) -> list[str]:
        return [word.replace("ROOT", str(root)).replace("OUT", str(out)) for word in self.argv.split()]

    def prepare(self, root: Path, out: Path) -> None:
        """A fresh OUT."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for name in self.given:
            shutil.copytree(root / name, out / Path(name).name)


def writers(root: Path) -> list[Writer]:
    """Their inputs are those of tests/damage under ROOT."""
    parts = f"--vae {root}/tiny/vae --text-encoder {root}/tiny/text --device cpu"
    asked = "ROOT/geneval/evaluation_metadata.jsonl"
    sets = ("**/*.tar", "**/*.json", "**/*.jsonl")
    return [
        Writer("distill", "lightgen", "distill ROOT/shards/captions.txt --teacher ROOT/tiny/dataset --out OUT/d", sets),
        Writer("import", "lightgen", "import ROOT/own/in --out OUT/d --size 16 --shard-size 1", sets),
        Writer("prepare", "lightgen", f"prepare ROOT/tiny/dataset {parts} --max-length 12 --out OUT/l", ("**/*",)),
        Writer("subset", "lightgen", "subset ROOT/tiny/latents --out OUT/s.json --images 8 --clusters 2", ("**/*",)),
        Writer("train", "train", "ROOT/tiny/latents OUT/run", ("**/*.safetensors", "**/config.json")),
        Writer("generate", "lightgen", "generate ROOT/whole/model --prompt a b c d --copies 2 --batch-size 1 "
               "--out OUT/i --device cpu --call num_inference_steps=1", ("**/*",)),
        Writer("export", "lightgen", "export ROOT/whole/model --out OUT/p", ("**/*",)),
        Writer("pairs", "lightgen", "pairs verifier ROOT/verified/grades.jsonl --images ROOT/verified/images --out OUT",
               ("**/*",)),
        Writer("prompts", "geneval", "prompts --out OUT --num-prompts 50", ("**/*",)),
        Writer("score", "geneval", f"score ROOT/geneval/images --prompts {asked} --out OUT/r.jsonl", ("**/*",)),
        Writer("report", "reports", "build ROOT/study --out OUT/report", ("**/*",)),
        Writer("detect", "geneval", "detect OUT/images --device cpu --batch-size 1 --detector ROOT/masks/detector "
               "--clip ROOT/colors/clip", ("**/*",), given=("judged/images",)),
        Writer("geneval generate", "geneval", f"generate ROOT/exported/pipeline --prompts {asked} --copies 2 --steps 1 "
               "--out OUT/i --device cpu", ("**/*",)),
        Writer("convert", "geneval", "convert ROOT/mmdet/c.pth --out OUT/d", ("**/*",)),
        Writer("convert released", "lightgen", f"convert ROOT/released/c.pth --out OUT/m {sizes()}", ("**/*",)),
        Writer("dpo", "dpo", "ROOT/whole/model ROOT/preferred/pairs.jsonl OUT/run",
               ("**/*.safetensors", "**/config.json")),
        Writer("features", "benchmarks", "quality features ROOT/pictures/a --extractor icon-clip --out "
               "OUT/f.safetensors --device cpu", ("**/*",)),
        Writer("statistics", "benchmarks", "quality features ROOT/pictures/a --extractor icon-clip --statistics --out "
               "OUT/f.safetensors --device cpu", ("**/*",)),
        Writer("measure", "benchmarks", "quality measure ROOT/pictures/a ROOT/pictures/b --extractor icon-clip "
               "--out OUT/kept --device cpu", ("**/*",)),
        Writer("clip-score", "benchmarks", "quality clip-score ROOT/captioned/a --clip icon-clip --captions "
               "ROOT/captioned/c.jsonl --out OUT/rows.jsonl --device cpu", ("**/*",)),
        Writer("import tars", "lightgen", "import ROOT/tars/in --out OUT/d --size 16 --shard-size 4", sets),
        Writer("import parquet", "lightgen", "import ROOT/parquet/in --out OUT/d --size 16 --shard-size 1", sets),
        Writer("claims", "reports", "claims OUT/claims", ("**/claims.md",), given=("claims",)),
        Writer("pack", "reports", "pack ROOT/all --out OUT/p --slim", ("**/*",)),
    ]  # fmt: skip


def prefer(folder: Path) -> None:
    """A pair of pictures of the size that the model of tests/damage is trained on."""
    folder.mkdir()
    for name, color in (("a", (200, 30, 30)), ("b", (30, 30, 200))):
        Image.new("RGB", (16, 16), color).save(folder / f"{name}.png")
    row = {"prompt": "a red square", "chosen": "a.png", "rejected": "b.png", "source": "file", "scores": [1.0, 0.0]}
    (folder / "pairs.jsonl").write_text(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def scratch():
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def contents(out: Path, globs: tuple[str, ...]) -> dict[str, bytes]:
    paths = {path for glob in globs for path in out.glob(glob) if path.is_file()}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(paths)}


def left_over(out: Path) -> list[str]:
    return [path.relative_to(out).as_posix() for path in out.rglob("*") if TEMPORARY.fullmatch(path.name)]


def forked(program: str, words: list[str]) -> int:
    """The process id of a copy of this process that runs the command; its libraries are loaded already."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        # The lock of progress bars is shared by all forks: one that is killed holding it would stop every other.
        tqdm.set_lock(threading.RLock())
        code = 99
        with contextlib.suppress(BaseException):
            code = commands.run(program, words).code
        os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_killed_command_gives_the_same_bytes_when_it_is_given_again(request, scratch):
    kills, generator = request.config.getoption("--kills", default=4), random.Random(18)
    root, out = scratch / "undamaged", scratch / "out"
    formats.build(root)
    prefer(root / "preferred")
    commands.PARTS[:] = [root / "tiny"]
    wanted = request.config.getoption("--writers", default=[])
    all_writers = [one for one in writers(root) if not wanted or one.name in wanted]
    expected, seconds = {}, {}
    done, finished_first, problems = 0, 0, []
    for turn in range(kills - kills // STUDY_SHARE):
        writer = all_writers[turn % len(all_writers)]
        words = writer.words(root, out)
        if writer.name not in expected:
            writer.prepare(root, out)
            began = time.monotonic()
            assert ended(forked(writer.program, words)) == 0, writer.name
            seconds[writer.name] = time.monotonic() - began
            expected[writer.name] = contents(out, writer.same)
            assert expected[writer.name] and not left_over(out), writer.name
        writer.prepare(root, out)
        child = forked(writer.program, words)
        time.sleep(generator.random() * seconds[writer.name])
        os.kill(child, signal.SIGKILL)
        finished_first += ended(child) != -signal.SIGKILL
        done += 1
        if (code := ended(forked(writer.program, words))) != 0:
            problems.append(f"{writer.name}, kill {turn}: exit code {code} when it is given again")
        elif changed := differing(contents(out, writer.same), expected[writer.name]):
            problems.append(f"{writer.name}, kill {turn}: other bytes: {changed}")
        elif left := left_over(out):
            problems.append(f"{writer.name}, kill {turn}: left over: {left}")
    print(f"\n{done} kills of {len(expected)} commands, {finished_first} after the end; {len(problems)} problems")
    assert not problems, "\n".join(problems)


def differing(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """The files that are missing, too many, or of other bytes."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def test_a_killed_study_gives_the_same_records(request, tmp_path):
    """The driver, a worker or both at once, at any moment; then the same command."""
    kills, generator = request.config.getoption("--kills", default=4) // STUDY_SHARE, random.Random(18)
    if not kills:
        pytest.skip(f"--kills {STUDY_SHARE} or more")
    command = [sys.executable, "-m", "ablations.run", str(STUDY), "--scale", "cpu", "--workers", "2"]
    command += ["--only", "few", "many", "few-dpo", "--out"]
    began = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    seconds = time.monotonic() - began
    whole = contents(tmp_path / "whole", ("cells/*/result.json", "cells/*/*.jsonl", "report/tables/*"))
    for turn in range(kills):
        out = tmp_path / f"killed-{turn}"
        driver = psutil.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.random() * seconds)
        whom = ("driver", "worker", "both")[turn % 3]
        workers = driver.children(recursive=True) if driver.is_running() else []
        struck = generator.sample(workers, 1) if workers and whom != "driver" else []  # or what workers are forks of
        for process in [*struck, *([driver] if whom != "worker" else ())]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        driver.wait()
        psutil.wait_procs(workers, timeout=60)
        subprocess.run([*command, str(out)], check=True, capture_output=True)
        assert contents(out, ("cells/*/result.json", "cells/*/*.jsonl", "report/tables/*")) == whole, (turn, whom)
        store = [name for name in left_over(out / "store") if not name.startswith(".leases")]
        assert not store, (turn, whom, store)
