"""The report's two texts from one view: index.html (one file, no scripts, nothing fetched) and report.md."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.figures.figure import CARD, GRID, INK, MUTED, PALETTE, Figure
from reports.tables.table import markdown_text, to_markdown

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
TEMPLATES = {"index.html": "report.html.j2", "report.md": "report.md.j2"}


def texts(view: Mapping[str, Any]) -> dict[str, str]:
    """{file name: text}."""
    return {
        name: _environment(name).get_template(template).render(**view, policy=CONTENT_POLICY)
        for name, template in TEMPLATES.items()
    }


def _environment(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        # Prompts, labels and reasons are other people's text. Markdown is escaped by its own filter.
        autoescape=name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inline"] = _inline
    environment.filters["md"] = markdown_text
    environment.filters["md_table"] = to_markdown
    return environment


def _inline(figure: Figure) -> str:
    """The figure's SVG as an element of the page: own identifiers, the page's colors, a text for who cannot see it."""
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{figure.name}-", svg)
    label = f'role="img" aria-label="{html.escape(figure.alt)}"'
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]+")[^>]*>', lambda m: f"<svg {m[1]} {XLINK} {label}>", svg, count=1)
    colors = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--rule)", CARD: "var(--card)"}
    colors.update({color: f"var(--series-{i})" for i, color in enumerate(PALETTE)})
    return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", lambda m: f"{m[1]}: {colors.get(m[2], m[2])}", svg)
