"""Where two judges of the same images differ: by task and reason, with Cohen's kappa and its interval over prompts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
_NUM_LISTED = 20


def agreement(rows_a: Rows, rows_b: Rows, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """`{"overall": found, "tasks": {tag: found}, "differing": [...]}` of two results files of the same images.

    found: n, clusters, agree (share), kappa with ci (95 %, prompts resampled; null where it is not defined), only_a and
    only_b (images that only one calls correct). Images are paired by their last three names, INDEX/samples/COPY.png.
    """
    a, b = _by_image(rows_a, "A"), _by_image(rows_b, "B")
    if differing := sorted(a.keys() ^ b.keys()):
        raise ValueError(f"A and B are of other images: {len(differing)} are in one of them only, as {differing[0]}")
    if wrong := [name for name in a if a[name]["metadata"] != b[name]["metadata"]]:
        raise ValueError(f"{wrong[0]}: A and B judged it by another prompt")
    pairs = [(a[name], b[name]) for name in a]
    tags = dict.fromkeys(row["tag"] for row, _ in pairs)
    tasks = {tag: _found([p for p in pairs if p[0]["tag"] == tag], resamples, seed) for tag in tags}
    return {"overall": _found(pairs, resamples, seed), "tasks": tasks, "differing": _differing(pairs)}


def agreement_text(result: Mapping[str, Any]) -> str:
    """The result as a table and the images that differ, reasons beside each other."""
    lines = [f"{'':<16} {'images':>7} {'agree':>7} {'kappa':>7} {'95 % interval':>18} {'only A':>7} {'only B':>7}"]
    for name, row in {**result["tasks"], "overall": result["overall"]}.items():
        kappa = "-" if row["kappa"] is None else f"{row['kappa']:.3f}"
        interval = "-" if row["ci"] is None else "[{:.3f}, {:.3f}]".format(*row["ci"])
        counts = f"{row['only_a']:>7} {row['only_b']:>7}"
        lines.append(f"{name:<16} {row['n']:>7} {row['agree']:>7.1%} {kappa:>7} {interval:>18} {counts}")
    for count in Counter((d["tag"], d["kind"]) for d in result["differing"]).most_common():
        lines.append(f"{count[1]:>4} x {count[0][0]}: {count[0][1]}")
    for one in result["differing"][:_NUM_LISTED]:
        lines.append(f"{one['image']}: A {one['a'] or 'correct'!r}, B {one['b'] or 'correct'!r}")
    if len(result["differing"]) > _NUM_LISTED:
        lines.append(f"and {len(result['differing']) - _NUM_LISTED} more")
    return "".join(f"{line}\n" for line in lines)


def _by_image(rows: Rows, side: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if not isinstance(row.get("filename"), str):
            raise ValueError(f"{side}: a row has no filename, by which images are paired")
        name = "/".join(PurePath(row["filename"]).parts[-3:])
        if name in found:
            raise ValueError(f"{side}: {name} occurs twice")
        found[name] = row
    return found


def _found(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], resamples: int, seed: int) -> dict[str, Any]:
    """Counts of (both wrong, only B, only A, both correct) a prompt, and what follows from their sums."""
    names: dict[str, int] = {}
    counts = np.zeros((len({row["metadata"] for row, _ in pairs}), 4))
    for a, b in pairs:
        counts[names.setdefault(a["metadata"], len(names)), 2 * a["correct"] + b["correct"]] += 1
    total = counts.sum(0)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(resamples, len(counts)))
    kappas = _kappa(counts[drawn].sum(1))
    kappas, kappa = kappas[np.isfinite(kappas)], float(_kappa(total[None])[0])
    is_defined = np.isfinite(kappa) and len(kappas) > resamples // 2
    return {
        "n": len(pairs),
        "clusters": len(counts),
        "agree": float((total[0] + total[3]) / total.sum()),
        "kappa": kappa if np.isfinite(kappa) else None,
        "ci": [float(v) for v in np.quantile(kappas, [0.025, 0.975])] if is_defined else None,
        "only_a": int(total[2]),
        "only_b": int(total[1]),
    }


def _kappa(counts: np.ndarray) -> np.ndarray:
    """(..., 4) counts -> Cohen's kappa; NaN where both judges say one thing throughout."""
    shares = counts / counts.sum(-1, keepdims=True)
    a, b = shares[..., 2] + shares[..., 3], shares[..., 1] + shares[..., 3]
    chance = a * b + (1 - a) * (1 - b)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = (shares[..., 0] + shares[..., 3] - chance) / (1 - chance)
    return np.where(chance < 1 - 1e-12, kappa, np.nan)


def _differing(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[dict[str, str]]:
    found = []
    for a, b in pairs:
        if a["correct"] != b["correct"]:
            said = {"a": str(a.get("reason", "")), "b": str(b.get("reason", ""))}
            wrong = said["b"] if a["correct"] else said["a"]
            kind = f"only {'A' if a['correct'] else 'B'} says correct; {_kind(wrong)}"
            image = "/".join(PurePath(a["filename"]).parts[-3:])
            found.append({"image": image, "tag": a["tag"], "kind": kind, **said})
    return found


def _kind(reason: str) -> str:
    """What the first failed clause was about."""
    first = reason.split("\n")[0]
    if first.startswith("no target") or " target, found" in first:
        return "position"
    if ">=" in first and "; and " in first:
        return "color"
    return "surplus object" if "<" in first else "missing object"
