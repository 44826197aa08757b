"""When a run's state is saved, and by whom: at most 2 % of the time, beside training where memory allows."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from torch import Tensor

from lightgen.training.config import LoopConfig
from lightgen.training.state import save_state

PAUSE = 50  # a save may come after this many times the seconds that the last one held training up


class Saver:
    """Writes the states of one run; `beside`: in a thread, from a copy on the host, while training goes on."""

    def __init__(self, folder: Path, pace: LoopConfig, *, beside: bool):
        self.folder, self.pace, self.beside = folder, pace, beside
        self.saved = time.monotonic()  # when training last went on after a save
        self.held_up = 0.0  # seconds that the newest save kept training waiting
        self.whole = 0.0  # seconds that it took until it was on disk: what a signal's grace time must hold
        self.writer: threading.Thread | None = None
        self.error: BaseException | None = None

    def is_due(self) -> bool:
        """Whether it is time for another; `save_every_seconds` 0 asks for one after every step."""
        every = self.pace.save_every_seconds
        return every == 0 or time.monotonic() - self.saved > max(every, PAUSE * self.held_up)

    def save(self, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Keep this state; one that is still being written is waited for."""
        began = time.monotonic()
        self.wait()
        if self.beside and _fits(tensors):
            copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
            self.writer = threading.Thread(target=self._write, args=(began, step, copies, record))
            self.writer.start()
        else:
            self._write(began, step, tensors, record)
            self._raise()
        self.saved = time.monotonic()
        self.held_up = self.saved - began

    def wait(self) -> None:
        """Return once the newest state is on disk; raises what kept it from there."""
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        self._raise()

    def _write(self, began: float, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        try:
            save_state(self.folder, step, tensors, record)
        except BaseException as error:
            self.error = error
        self.whole = time.monotonic() - began

    def _raise(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        if 0 < self.pace.grace_seconds < self.whole:
            warnings.warn(
                f"a save takes {self.whole:.0f} s, longer than the {self.pace.grace_seconds:g} s between a signal and"
                " the end of the process; ask for a longer time",
                stacklevel=2,
            )


def _fits(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the host's free memory holds a copy, with as much to spare."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return 2 * needed < psutil.virtual_memory().available
