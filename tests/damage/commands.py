"""The commands, called in this process; what they print, how they end, and whether they hang or eat memory."""

import contextlib
import io
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

SECONDS = 20  # of this process's time
WAITING = 900  # on the clock: a machine may be busy, a pipe waits for ever


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str = field(compare=False)  # progress tells of time
    traceback: str = ""


class Hangs(BaseException):
    """Not an Exception: no command may catch it."""


def run(program: str, argv: list[str]) -> Outcome:
    """The command's outcome; a traceback is kept, a hang raises."""
    out, err = io.StringIO(), io.StringIO()
    with _limits(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        before, sys.argv = sys.argv, [program, *argv]
        try:
            code = _main(program, argv)
            return Outcome(code or 0, out.getvalue(), err.getvalue())
        except SystemExit as left:
            if isinstance(left.code, str):
                return Outcome(1, out.getvalue(), err.getvalue() + left.code)
            return Outcome(left.code or 0, out.getvalue(), err.getvalue())
        except Hangs:
            return Outcome(-1, out.getvalue(), err.getvalue(), "HANGS\n" + traceback.format_exc())
        except BaseException:
            return Outcome(-1, out.getvalue(), err.getvalue(), traceback.format_exc())
        finally:
            sys.argv = before


def _main(program: str, argv: list[str]) -> int | None:
    if program == "geneval":
        from geneval.__main__ import main
    elif program == "lightgen":
        from lightgen.__main__ import main
    elif program == "reports":
        from reports.__main__ import main
    elif program == "benchmarks":
        from benchmarks.__main__ import main

        return main(argv)
    elif program == "ablations":
        from ablations.run import main

        return main(argv)
    elif program == "status":
        from ablations.__main__ import main

        return main(["status", *argv])
    elif program == "dpo":
        return _prefer(*map(Path, argv))
    elif program == "gallery":
        return _gallery(Path(argv[0]))
    elif program == "serve":
        return _serve(Path(argv[0]), argv[1])
    elif program == "ids":
        return _ids(Path(argv[0]), Path(argv[1]))
    else:
        return _train(Path(argv[0]), Path(argv[1]))
    return main()


def _gallery(folder: Path) -> int:
    """The pictures of a report, without the plots that take its time."""
    from reports.gallery import gallery
    from reports.records.study import read_study

    try:
        study = read_study(folder)
        shown = gallery(study)
        print(*study.problems(), sep="\n")
        for row in shown.rows if shown else ():
            print(row.prompt, [(p.is_correct, p.reason, len(p.source)) if p else None for p in row.pictures])
    except (ValueError, OSError) as error:  # as reports.__main__.main
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1


def _ids(latents: Path, subset: Path) -> int:
    """The samples that a training on a subset would be of."""
    import torch

    from lightgen.data.cache_files import read_index
    from lightgen.data.latents import LatentDataset
    from lightgen.data.subsets import read_subset

    try:
        data = LatentDataset(latents, ids=read_subset(subset, read_index(latents)["identity"]))
        print(len(data), float(data.modes(torch.arange(len(data))).double().sum()))
    except (ValueError, OSError) as error:  # as lightgen.__main__.main
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(body: Path, kind: str) -> int:
    """The answer of the reward service; a status of 500 and above is a traceback."""
    answer = _client().post("/", content=body.read_bytes(), headers={"Content-Type": kind})
    if answer.status_code >= 500:
        raise RuntimeError(f"HTTP {answer.status_code}: {answer.text}")
    print(answer.text, file=sys.stdout if answer.status_code == 200 else sys.stderr)
    return 0 if answer.status_code == 200 else 2


@cache
def _client() -> Any:
    from starlette.testclient import TestClient

    from geneval.judge import Judge
    from geneval.service import create_app

    client = TestClient(create_app(Judge.from_pretrained("icons", "icon-clip", "cpu")), base_url="http://127.0.0.1")
    return client.__enter__()


def _train(latents: Path, out: Path) -> int:
    """A training smaller than any preset, ended as the command line ends one."""
    import lightgen.training.train as training
    from lightgen.console import finish
    from lightgen.model.config import SamplingConfig
    from lightgen.training.config import LoopConfig, TrainConfig
    from tests.lightgen import squares

    sampling = SamplingConfig(num_steps=2, num_head_steps=2)
    parts: dict[str, Any] = {"vae": PARTS[0] / "vae", "text_encoder": PARTS[0] / "text", "sampling": sampling}
    parts |= {"device": "cpu", "loop": LoopConfig(log_every=1)}
    config = TrainConfig(samples_seen=16, batch_size=4, warmup_steps=1)
    training.FLOP_MASKS = 1  # counting operations takes most of the time of so small a training
    try:
        result = training.train(config, squares.MODEL, latents, out, **parts)
        finish({**result, "seconds": 0}, Path("OUT"), False)
    except (ValueError, OSError, ImportError) as error:  # as lightgen.__main__.main
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _prefer(model: Path, pairs: Path, out: Path) -> int:
    """A preference training of two steps."""
    from lightgen.preference.config import PreferenceConfig
    from lightgen.preference.dpo import train_dpo
    from lightgen.training.config import LoopConfig

    config = PreferenceConfig(steps=2, batch_size=1, noise_draws=1)
    train_dpo(config, model, pairs, out, device="cpu", loop=LoopConfig(log_every=1, save_every_seconds=0.0))
    return 0


PARTS: list[Path] = []  # the folder of tests.lightgen.squares.build


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    def hangs(number: int, frame: object) -> None:
        raise Hangs

    old = [signal.signal(number, hangs) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS, 1)  # again: a library's callback may swallow the first
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), old):
            signal.signal(number, handler)


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_memory(more: int) -> None:
    """No more than `more` beyond what is mapped now: what asks for it gets a MemoryError."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, resource.getrlimit(resource.RLIMIT_AS)[1]))
