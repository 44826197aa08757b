"""A plot as bytes: the same bytes for the same rows. One style for all; the palette is Okabe and Ito's with two of
Tol's, which color-blind readers can tell apart."""

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.tables.table import to_csv
from reports.words import shortened

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
INK, MUTED, GRID, CARD = "#24292f", "#6e7781", "#d8dee4", "#fefefe"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "text.color": INK,
    "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlecolor": INK,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.facecolor": "none", "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "figure.facecolor": "none", "grid.color": GRID, "grid.linewidth": 0.8, "legend.frameon": False,
    "xtick.color": MUTED, "xtick.labelcolor": INK, "xtick.labelsize": 8.5,
    "ytick.color": MUTED, "ytick.labelcolor": INK, "ytick.labelsize": 9,
    "svg.fonttype": "none",
    # Labels come from records: a dollar sign in one is a dollar sign.
    "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot as bytes, and the rows behind it."""

    name: str
    title: str
    alt: str  # what a reader who cannot see it should know
    svg: str
    png: bytes
    data: Sequence[Mapping[str, Any]]

    def write(self, folder: Path) -> None:
        """`folder`/NAME.svg, .png and .csv."""
        (folder / f"{self.name}.svg").write_text(self.svg, encoding="utf-8", newline="\n")
        (folder / f"{self.name}.png").write_bytes(self.png)
        (folder / f"{self.name}.csv").write_text(to_csv(self.data), encoding="utf-8", newline="\n")


def render(
    name: str,
    title: str,
    alt: str,
    draw: Callable[[Any], None],
    data: Sequence[Mapping[str, Any]],
    *,
    width: float = 11,
    height: float,
) -> Figure:
    """The drawing as SVG and PNG; no date, and a salt of its own for the identifiers of each figure."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(canvas)
        draw(canvas)
        # The layout is found once and kept for both files: it takes half of the time.
        canvas.draw_without_rendering()
        canvas.set_layout_engine(None)  # "none" would leave a placeholder, for which each file is drawn once more
        canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        canvas.savefig(png, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return Figure(name=name, title=title, alt=alt, svg=svg.getvalue(), png=png.getvalue(), data=data)


def panels(figure: Any, count: int, columns: int, **shared: bool) -> list[Any]:
    """`count` axes in rows of `columns`, and behind them the empty ones of the last row, switched off."""
    rows = -(-count // columns)
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flatten())
    for ax in axes[count:]:
        ax.set_axis_off()
    return axes


def even(count: int, most: int) -> int:
    """Columns for `count` panels, at most `most`, so that the last row is as full as can be."""
    rows = -(-count // most)
    return max(1, -(-count // rows))


def list_down(ax: Any, labels: Sequence[str], most: int = 48) -> None:
    """A row for each label, the first at the top; labels of up to `most` characters."""
    ax.set_yticks(range(len(labels)), [shortened(label, most) for label in labels], fontsize=8.5)
    ax.set_ylim(len(labels) - 0.4, -0.6)


def grid(ax: Any, axis: Any = "both") -> None:
    ax.grid(axis=axis)
    ax.tick_params(length=0)


def note(figure: Any, text: str) -> None:
    """Small print under the plot."""
    figure.supxlabel(text, fontsize=8.5, color=MUTED)


def wrapped(text: str, width: int, lines: int = 3) -> str:
    """`text` broken into at most so many lines of `width` characters."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …")) or text
