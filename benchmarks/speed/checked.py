"""Processor time that the checks of files take in a process: `install` before anything is run, `write` at its end."""

import functools
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

# What looks at files and numbers and does nothing else, where it is defined.
CHECKS = {
    "lightgen.disk.json_files": ("_check_depth", "_seal", "typed", "content_sha256"),
    "lightgen.disk.regular": ("regular_file",),
    "lightgen.disk.folders": ("file_sha256", "known_sha256", "folder_sha256"),
    "lightgen.disk.weight_files": ("weight_file", "in_order"),
    "lightgen.disk.png": ("check_png",),
    "lightgen.disk.tar_files": ("_check_end", "_check_rest", "tar_file"),
    "lightgen.disk.atomic": ("sweep",),
    "lightgen.model.encoders": ("refuse_not_finite",),
    "lightgen.model.folder": ("_check_transformer", "_files"),
    "lightgen.data.cache_files": ("_problem", "index_identity"),
    "geneval.json_files": ("check_depth", "_digest"),
    "geneval.regular": ("regular_file",),
    "geneval.hashes": ("file_sha256",),
    "geneval.weight_files": ("weight_file",),
    "geneval.png": ("check_png",),
    "geneval.finite": ("refuse_not_finite",),
    "geneval.detections": ("_checksum", "_are_scores"),
    "geneval.atomic": ("_sweep",),
    "benchmarks.quality.moments": ("_sha256", "check_statistics"),
}
# Strict readers of JSON: their time above the standard library's on the same text.
READERS = {"lightgen.disk.json_files": "parse_json", "geneval.json_files": "parse_json"}


class Checked:
    """The time of each check, and what this measurement itself takes."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.own = 0.0  # of reading once more with the standard library
        self.before = 0.0  # of the process that this one is a fork of
        self._inside = threading.local()

    def install(self) -> None:
        """Put the checks' wrappers wherever the checks are named already, and will be."""
        wrapped: dict[int, Callable[..., Any]] = {}
        for module, names in CHECKS.items():
            for name in names:
                found = getattr(import_module(module), name)
                wrapped[id(found)] = self._timed(f"{module}.{name}", found)
        for module, name in READERS.items():
            found = getattr(import_module(module), name)
            wrapped[id(found)] = self._compared(f"{module}.{name}", found)
        for loaded in list(sys.modules.values()):
            for name, value in list(vars(loaded).items()) if isinstance(loaded, type(sys)) else ():
                if id(value) in wrapped and callable(value):
                    setattr(loaded, name, wrapped[id(value)])

    def pause(self) -> None:
        """Before a fork: the time until then is of no worker alone."""
        self.before = time.process_time()

    def start(self) -> None:
        """In the fork: nothing was checked in it."""
        self.seconds.clear()
        self.calls.clear()

    def write(self, folder: Path) -> None:
        """A file of this process in `folder`: all of its processor time, and the checks'."""
        total = time.process_time() - self.own
        record = {"seconds": total, "before": self.before, "checks": dict(self.seconds), "calls": dict(self.calls)}
        path = folder / f"{time.time_ns()}.json"
        path.write_text(json.dumps(record))

    def _timed(self, name: str, check: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(check)
        def timed(*arguments: Any, **options: Any) -> Any:
            if getattr(self._inside, "check", False):  # the outer one counts it
                return check(*arguments, **options)
            self._inside.check, begun = True, time.thread_time()
            try:
                return check(*arguments, **options)
            finally:
                self._inside.check = False
                self.seconds[name] += time.thread_time() - begun
                self.calls[name] += 1

        return timed

    def _compared(self, name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        timed = self._timed(name, read)

        @functools.wraps(read)
        def compared(text: str | bytes, *arguments: Any, **options: Any) -> Any:
            found = timed(text, *arguments, **options)
            if not getattr(self._inside, "check", False):
                begun = time.thread_time()
                json.loads(text)
                plain = time.thread_time() - begun
                self.seconds[name] -= plain
                self.own += plain
            return found

        return compared
