"""The contact sheet: every class's glyph beside its name, large and at the size of the small world."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ablations.icons.glyphs import COLORS, GLYPHS, glyph


def contact_sheet(out: Path, *, columns: int = 8) -> Path:
    """A PNG of all glyphs with their class names, for checking the table by eye."""
    from PIL import Image, ImageDraw, ImageFont

    rows = -(-len(GLYPHS) // columns)
    sheet = Image.new("RGB", (columns * 132, rows * 92), (160, 160, 160))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for index, name in enumerate(GLYPHS):
        x, y = index % columns * 132 + 6, index // columns * 92 + 4
        color = Image.new("RGB", (64, 64), list(COLORS.values())[index % len(COLORS)])
        sheet.paste(color, (x, y), Image.fromarray((glyph(name, 64) * 255).astype(np.uint8)))
        small = Image.fromarray((glyph(name, 14) * 255).astype(np.uint8)).resize((42, 42), Image.Resampling.NEAREST)
        sheet.paste((0, 0, 0), (x + 74, y + 11), small)
        pen.text((x, y + 68), name, fill=(0, 0, 0), font=font)
    sheet.save(out)
    return out
