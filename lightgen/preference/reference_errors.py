"""The reference's errors, computed once and kept on disk, so that training holds one model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lightgen.disk.atomic import atomic_file
from lightgen.disk.regular import LARGEST, regular_file
from lightgen.disk.weight_files import in_order
from lightgen.model.mar import MAR
from lightgen.model.masking import Draws
from lightgen.preference.encoded import EncodedPairs, pair_errors


class ReferenceErrors:
    """The reference's errors (pool size, P) of chosen and rejected images, in one file; NaN where not computed yet."""

    def __init__(self, path: Path, pool: int, num_pairs: int, identity: dict[str, Any]):
        self.path, self.identity = path, json.dumps(identity, sort_keys=True)
        self.values = torch.full((2, pool, num_pairs), float("nan"))
        if path.is_file():
            self.load()

    def missing(self, wanted: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of the (visit, pair) entries that were not computed yet."""
        return [entry for entry in wanted if self.values[0, entry[0], entry[1]].isnan()]

    def fill(
        self,
        model: MAR,
        pairs: EncodedPairs,
        wanted: Sequence[tuple[int, int]],
        draws_of: Callable[[Tensor, Tensor], Draws],
        *,
        batch_size: int,
        device: torch.device,
        guidance: float = 1.0,
        stop: Callable[[], bool] | None = None,
        save_every_seconds: float = 60.0,
        keeps: bool = True,
    ) -> bool:
        """Compute what is missing of the (visit, pair) entries, and save it where this process `keeps` the file; False
        where `stop` ended it early."""
        todo = self.missing(wanted)
        saved = time.monotonic()
        for first in range(0, len(todo), batch_size):
            if stop is not None and stop():
                if keeps:
                    self._save()
                return False
            visits, ids = torch.tensor(todo[first : first + batch_size]).T
            with torch.no_grad():
                found = pair_errors(model, pairs, ids, draws_of(ids, visits), device, guidance)
            self.values[:, visits, ids] = torch.stack([found.chosen, found.rejected]).float().cpu()
            if keeps and time.monotonic() - saved > save_every_seconds:
                self._save()
                saved = time.monotonic()
        if todo and keeps:
            self._save()
        return True

    def share(self, accelerator: Accelerator, *, keeps: bool) -> None:
        """Give every process what any of them computed, each entry by one; all must ask together."""
        values = self.values.to(accelerator.device)
        known = values.isfinite().float()
        totals, counts = (accelerator.reduce(part, "sum") for part in (values.nan_to_num(), known))
        self.values = torch.where(counts > 0, totals / counts, torch.nan).cpu()
        if keeps:
            self._save()

    def at(self, ids: Tensor, visits: Tensor) -> tuple[Tensor, Tensor]:
        """(chosen (B,), rejected (B,)) errors."""
        chosen, rejected = self.values[:, visits, ids]
        return chosen, rejected

    def _save(self) -> None:
        from safetensors.torch import save

        said = {"identity": self.identity, "sha256": _sha256(self.values)}
        with atomic_file(self.path) as file:
            file.write(in_order(save({"errors": self.values}, metadata=said)))

    def load(self) -> None:
        """Read the file again, which another process may have written; ValueError for one of another run."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(regular_file(self.path, LARGEST), "pt") as file:
                said, values = file.metadata() or {}, file.get_tensor("errors")
        except SafetensorError as error:
            raise ValueError(f"{self.path} is torn ({error}); remove it, it will be computed again") from None
        if said.get("sha256", (found := _sha256(values))) != found:
            raise ValueError(f"{self.path} was changed since it was written; remove it, it will be computed again")
        identity = said.get("identity")
        if identity != self.identity or values.shape != self.values.shape:
            raise ValueError(
                f"{self.path} belongs to another model, seed, guidance or set of pairs; remove it or choose another"
                " folder"
            )
        self.values = values


def _sha256(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
