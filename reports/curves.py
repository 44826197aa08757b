"""Training and preference curves of the complete cells, from `training.jsonl` and `preference.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.contrasts import OVERALL, Scores
from reports.figures import MUTED, PALETTE, Figure, Look, draw_dot, looks, render, wrapped
from reports.records import Cell, Study

COLUMNS = 5  # panels of one variant each in a row
MAX_POINTS = 400  # of one curve in a plot and in the CSV behind it
PANELS = {"drift": "drift of the squared error", "accuracy": "implicit accuracy", "loss": "preference loss"}


def training(study: Study) -> Figure | None:
    """Training loss over samples seen, smoothed; cells that share a base model share its curve."""
    curves = _distinct([cell for cell in study.cells if len(_thinned(cell.training, "samples", "loss")) > 1])
    if not curves:
        return None
    look, labels = looks(study), {variant.name: variant.label for variant in study.variants}
    data = [
        {"cell": cell.name, "samples": row["samples"], "loss": row["loss"], "smoothed": smooth}
        for cell in curves
        for row, smooth in _thinned(cell.training, "samples", "loss")
    ]

    def draw(figure) -> None:
        ax = figure.subplots()
        ends: dict[str, tuple[float, float, Look]] = {}
        for cell in curves:
            rows = [row for row in data if row["cell"] == cell.name]
            mine = look[cell.variant]
            xs, ys = [row["samples"] for row in rows], [row["smoothed"] for row in rows]
            ax.plot(xs, [row["loss"] for row in rows], color=mine.color, linewidth=0.6, alpha=0.2)
            ax.plot(xs, ys, color=mine.color, linestyle=mine.line, linewidth=1.6)
            ends.setdefault(labels[cell.variant], (xs[-1], ys[-1], mine))
        settled = sorted(row["smoothed"] for row in data)
        low, high = settled[0], settled[int(0.97 * (len(settled) - 1))]
        ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low) + 1e-9)
        _label_ends(ax, ends, gap=0.055)
        ax.set_xlabel("training samples seen")
        ax.set_ylabel("loss (smoothed)")
        ax.xaxis.set_major_formatter(_thousands)
        ax.grid(axis="y")
        ax.tick_params(length=0)

    alt = "Final loss: " + "; ".join(
        f"{cell.name} {_thinned(cell.training, 'samples', 'loss')[-1][1]:.3f}" for cell in curves
    )
    return render("training", "Training curves", alt, draw, data, width=11, height=3.6)


def preference(study: Study) -> Figure | None:
    """Preference training: drift of winners and losers, implicit accuracy and loss over steps; of many variants the
    drift alone, a panel each, for lines of more than six would not be told apart."""
    cells = [cell for cell in study.cells if len(cell.preference) > 1]
    fields = list(dict.fromkeys(key for cell in cells for row in cell.preference for key in row if _panel(key)))
    panels = [panel for panel in PANELS if any(_panel(key) == panel for key in fields)]
    if not panels:
        return None
    variants = [v for v in study.variants if any(cell.variant == v.name for cell in cells)]
    crowded = len(variants) > len(PALETTE)
    if crowded:
        fields = [key for key in fields if _panel(key) == "drift"]
    data = [
        {"cell": cell.name, "field": key, "step": row["step"], "value": row[key], "smoothed": smooth}
        for cell in cells
        for key in fields
        for row, smooth in _thinned(cell.preference, "step", key, MAX_POINTS // 4 if crowded else MAX_POINTS)
    ]
    rows = -(-len(variants) // COLUMNS) if crowded else 1

    def draw(figure) -> None:
        if not crowded:
            _preference_panels(figure, study, cells, fields, panels, data)
            return
        axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
        for ax, variant in zip(axes, variants):
            for cell in (cell for cell in cells if cell.variant == variant.name):
                for key in (key for key in fields if _panel(key) == "drift"):
                    _line(ax, data, cell, key, PALETTE[1 if "loser" in key else 0], "-")
            ax.set_title(wrapped(variant.label, 26), fontsize=8.5)
            _finish(ax, "drift")
        for ax in axes[len(variants) :]:
            ax.set_axis_off()
        figure.supylabel("drift of the squared error; blue: winners, orange: losers", fontsize=8.5, color=MUTED)
        figure.supxlabel("step", fontsize=8.5, color=MUTED)

    alt = "Preference training of " + ", ".join(cell.name for cell in cells)
    return render(
        "preference", "Preference training", alt, draw, data, width=11, height=1.75 * rows + 0.4 if crowded else 3.6
    )


def _preference_panels(figure, study: Study, cells, fields, panels, data) -> None:
    labels = {variant.name: variant.label for variant in study.variants}
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels):
        shown = [key for key in fields if _panel(key) == panel]
        for cell in cells:
            for key in shown:
                style = looks(study)[cell.variant].line if len(shown) == 1 else ("--" if "loser" in key else "-")
                label = labels[cell.variant] if key == shown[0] and cell.seed == study.seeds[0] else None
                _line(ax, data, cell, key, _shade(study, cell), style, label)
        ax.set_title(PANELS[panel] + ("\nsolid: winner, dashed: loser" if len(shown) > 1 else "\n"))
        ax.set_xlabel("step")
        _finish(ax, panel)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _line(ax, data, cell: Cell, key: str, color: str, style: str, label: str | None = None) -> None:
    rows = [row for row in data if row["cell"] == cell.name and row["field"] == key]
    xs, ys = [row["step"] for row in rows], [row["smoothed"] for row in rows]
    ax.plot(xs, ys, color=color, linestyle=style, linewidth=1.6, label=label)


def _finish(ax, panel: str) -> None:
    if panel != "loss":
        ax.axhline(0.5 if panel == "accuracy" else 0.0, color=MUTED, linewidth=0.8)
    ax.grid(axis="y")
    ax.tick_params(length=0)


def drift(study: Study, scores: Scores) -> Figure | None:
    """GenEval overall over the measured drift of the winners' error: a gain that drift paid for lies to the right.

    A number is a variant's mean over its seeds, small dots are the seeds; a variant without preference training has
    not drifted.
    """
    points = {v.name: _drifts(study, v.name) for v in study.variants if (v.name, "", OVERALL) in scores}
    if all(moved is None for found in points.values() for _, moved, _ in found):
        return None
    shown = [v for v in study.variants if not v.is_control and points.get(v.name)]
    data: list[dict[str, Any]] = [
        {"variant": v.name, "seed": cell.seed, "winner_drift": value or 0.0, "geneval_overall": overall,
         "was_preferred": value is not None}
        for v in shown for cell, value, overall in points[v.name]
    ]  # fmt: skip

    def draw(figure) -> None:
        ax = figure.subplots()
        ax.axvline(0.0, color=MUTED, linewidth=0.8)
        ends: dict[str, tuple[float, float, Look]] = {}
        numbers: dict[tuple[float, float], list[str]] = {}  # of the variants at (nearly) one place
        for number, variant in enumerate(shown, 1):
            estimate, mine = scores[variant.name, "", OVERALL], looks(study)[variant.name]
            rows = [row for row in data if row["variant"] == variant.name]
            x = sum(row["winner_drift"] for row in rows) / len(rows)
            ax.plot([row["winner_drift"] for row in rows], [row["geneval_overall"] for row in rows], ".", alpha=0.35,
                    markersize=5, color=mine.color)  # fmt: skip
            draw_dot(ax, x, estimate.value, None, mine)
            numbers.setdefault((round(x, 2), round(estimate.value, 2)), []).append(str(number))
            ends[f"{number}  {variant.label}: {estimate.value:.3f}"] = (x, estimate.value, mine)
        for place, near in numbers.items():
            ax.annotate(", ".join(near), place, xytext=(5, 3), textcoords="offset points", fontsize=8.5)
        ax.margins(x=0.06, y=0.08)
        _label_ends(ax, ends, gap=0.052)
        ax.set_xlabel("drift of the winners' squared error from the reference (left: their error fell)")
        ax.set_ylabel("GenEval overall")
        ax.grid()
        ax.tick_params(length=0)

    alt = "GenEval overall against winner drift: " + "; ".join(
        f"{row['variant']} seed {row['seed']} {row['winner_drift']:+.3f} {row['geneval_overall']:.2f}" for row in data
    )
    return render("drift", "Score against drift", alt, draw, data, width=11, height=4.4)


def _drifts(study: Study, variant: str) -> list[tuple[Cell, float | None, float]]:
    """(cell, winner drift or None, GenEval overall) of the variant's complete cells."""
    found = []
    for cell in study.complete(variant):
        metrics = cell.record.metrics if cell.record else {}
        overall, moved = metrics.get("geneval/overall"), metrics.get("preference/winner_drift")
        if overall and overall.value is not None:
            found.append((cell, moved.value if moved else None, overall.value))
    return found


def _panel(key: str) -> str:
    """The panel that a logged field belongs to, by its last word; "" for those not shown."""
    return next((panel for panel in PANELS if key == panel or key.endswith(f"_{panel}")), "")


def _shade(study: Study, cell: Cell) -> str:
    """A color of its own for each variant with preference training: line styles are taken."""
    names = list(dict.fromkeys(c.variant for c in study.cells if c.preference))
    return PALETTE[names.index(cell.variant) % len(PALETTE)]


def _distinct(cells: Sequence[Cell]) -> list[Cell]:
    """The first cell of each distinct curve."""
    seen: list[tuple[int, list[dict]]] = []
    found = []
    for cell in cells:
        if (cell.seed, cell.training) not in seen:
            seen.append((cell.seed, cell.training))
            found.append(cell)
    return found


def _thinned(
    rows: Sequence[Mapping[str, Any]], x: str, key: str, most: int = MAX_POINTS
) -> list[tuple[Mapping[str, Any], float]]:
    """At most `most` rows that have `x` and `key`, each with its running mean over a fiftieth of the curve."""
    given = [row for row in rows if isinstance(row.get(x), (int, float)) and isinstance(row.get(key), (int, float))]
    weight = min(1.0, 50 / max(len(given), 1))
    mean, means = 0.0, []
    for number, row in enumerate(given, 1):
        mean += (row[key] - mean) * max(weight, 1 / number)
        means.append(mean)
    step = -(-len(given) // most) or 1
    return [(given[i], means[i]) for i in range((len(given) - 1) % step, len(given), step)]


def _label_ends(ax, ends: Mapping[str, tuple[float, float, Look]], *, gap: float) -> None:
    """Each curve's name at its right end, moved up or down until no two touch."""
    low, high = ax.get_ylim()
    order = sorted(ends.items(), key=lambda item: item[1][1])
    places = [(y - low) / (high - low) for _, (_, y, _) in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    shift = max(0.0, places[-1] - 1.0)
    for (label, (_, _, look)), place in zip(order, places):
        ax.annotate(label, (1.0, place - shift), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
                    va="center", color=look.color, fontsize=8.5)  # fmt: skip


def _thousands(value: float, _position: int) -> str:
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"
