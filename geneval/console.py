"""What command lines share: a tree of verbs with one-line errors, I/N shards, KEY=VALUE pairs, progress, JSON."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Union

import tyro
from tyro.conf import arg, subcommand

Pairs = Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")]
Shard = Annotated[str, arg(metavar="I/N")]
Verbs = Mapping[str, Any]  # name -> function that tyro parses, or (what this group is, its own verbs)

_CONFIG = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
)


def run(verbs: Verbs, *, prog: str, description: str, arguments: Sequence[str] | None = None) -> int:
    """The exit code of the verb that the command line names (0 where it returns none); a user's mistake is one line."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = tyro.cli(_tree(verbs), prog=prog, description=description, args=given, config=_CONFIG)
        sys.stdout.flush()
        return code or 0
    except BrokenPipeError:  # the reader, as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _tree(verbs: Verbs) -> Any:
    nodes = {name: verb if callable(verb) else _group(*verb) for name, verb in verbs.items()}
    kinds = [Annotated[Any, subcommand(name=name, constructor=node)] for name, node in nodes.items()]
    return Union[tuple(kinds)]  # noqa: UP007 - of a list


def _group(description: str, verbs: Verbs) -> Callable[[Any], Any]:
    def chosen(verb: Any) -> Any:
        return verb

    chosen.__annotations__["verb"], chosen.__doc__ = _tree(verbs), description
    return chosen


def pairs(values: Sequence[str]) -> dict[str, str]:
    """`key=value` split at the first "="."""
    if wrong := [value for value in values if "=" not in value]:
        raise ValueError(f"{wrong[0]!r} is not KEY=VALUE")
    return dict(value.split("=", 1) for value in values)  # type: ignore[misc]


def json_pairs(option: str, values: Sequence[str]) -> dict[str, Any]:
    """`pairs` whose values are JSON."""
    try:
        return {name: json.loads(value) for name, value in pairs(values).items()}
    except json.JSONDecodeError as error:
        example = "guidance_rescale=0.7 or negative_prompt='\"blurry\"'"
        raise ValueError(f"{option} values must be JSON, as {example}: {error}") from None


def parse_shard(text: str) -> tuple[int, int]:
    """(I, N) of "I/N": every N-th piece of work from the I-th."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--shard {text!r} must be I/N with 0 <= I < N, as 0/4")
    return int(index), int(count)


def print_json(value: object) -> None:
    """One indented JSON document on stdout."""
    print(json.dumps(value, indent=1))


def progress_lines(unit: str) -> Callable[[int, int], None]:
    """A line with the time left, at most every few seconds: in place on a terminal, a new line elsewhere."""
    started = printed = time.monotonic()
    first: int | None = None
    is_terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        nonlocal printed, first
        now = time.monotonic()
        first = done if first is None else first
        if now - printed < (0.5 if is_terminal else 15) and done < total:
            return
        printed = now
        rate = (done - first) / (now - started) if done > first else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        end = "\r" if is_terminal and done < total else "\n"
        print(f"{done} of {total} {unit}{left}   ", end=end, file=sys.stderr, flush=True)

    return show
