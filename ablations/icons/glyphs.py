"""The alphabet of the icon world: one glyph for a GenEval class, one RGB value for a GenEval color."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# GenEval class -> glyph of Material Design Icons 7. Classes without a glyph that a person would name so are left out:
# bear, zebra, giraffe, backpack, frisbee, skis, surfboard, baseball glove, orange, broccoli, donut, sandwich, banana,
# dining table, oven, sink, vase, hair drier, parking meter. Checked by eye on contact_sheet.png.
GLYPHS: dict[str, str] = {
    "person": "human",
    "bicycle": "bicycle",
    "car": "car_side",
    "motorcycle": "motorbike",
    "airplane": "airplane",
    "bus": "bus",
    "train": "train",
    "truck": "truck",
    "boat": "sail_boat",
    "traffic light": "traffic_light",
    "fire hydrant": "fire_hydrant",
    "stop sign": "octagon",
    "bench": "bench_back",
    "bird": "bird",
    "cat": "cat",
    "dog": "dog_side",
    "horse": "horse_variant",
    "sheep": "sheep",
    "cow": "cow",
    "elephant": "elephant",
    "umbrella": "umbrella",
    "handbag": "purse",
    "tie": "tie",
    "suitcase": "bag_suitcase",
    "snowboard": "snowboard",
    "sports ball": "soccer",
    "kite": "kite",
    "baseball bat": "baseball_bat",
    "skateboard": "skateboard",
    "tennis racket": "racquetball",
    "bottle": "bottle_soda_classic",
    "wine glass": "glass_wine",
    "cup": "cup",
    "fork": "silverware_fork",
    "knife": "knife",
    "spoon": "silverware_spoon",
    "bowl": "bowl",
    "apple": "food_apple",
    "carrot": "carrot",
    "hot dog": "food_hot_dog",
    "pizza": "pizza",
    "cake": "cake_variant",
    "chair": "chair_rolling",
    "couch": "sofa",
    "potted plant": "flower_tulip",
    "bed": "bed",
    "toilet": "toilet",
    "tv": "television_classic",
    "laptop": "laptop",
    "computer mouse": "mouse",
    "tv remote": "remote_tv",
    "computer keyboard": "keyboard",
    "cell phone": "cellphone",
    "microwave": "microwave",
    "toaster": "toaster",
    "refrigerator": "fridge",
    "book": "book_open_variant",
    "clock": "clock",
    "scissors": "content_cut",
    "teddy bear": "teddy_bear",
    "toothbrush": "toothbrush",
}

# GenEval's ten colors. All lie far from each other and from the grey backgrounds (levels 140 to 180).
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 30, 35),
    "orange": (255, 135, 0),
    "yellow": (250, 230, 45),
    "green": (25, 145, 55),
    "blue": (35, 75, 215),
    "purple": (125, 45, 170),
    "pink": (255, 130, 195),
    "brown": (110, 65, 30),
    "black": (12, 12, 12),
    "white": (250, 250, 250),
}

_OVERSAMPLING = 8  # glyphs are drawn this much larger, then averaged down: their edges do not depend on font hinting


@lru_cache(maxsize=1)
def _font(pixels: int):
    from fonticon_mdi7 import MDI7
    from PIL import ImageFont

    return ImageFont.truetype(MDI7.__font_file__, pixels)


@lru_cache(maxsize=4096)
def glyph(name: str, size: int) -> np.ndarray:
    """Coverage of a class's glyph, (size, size) float32 in [0, 1], its ink filling the square's longer side."""
    from fonticon_mdi7 import MDI7
    from PIL import Image, ImageDraw

    if name not in GLYPHS:
        raise ValueError(f"no glyph for class {name!r}; classes with one: {', '.join(GLYPHS)}")
    character = getattr(MDI7, GLYPHS[name]).split(".")[-1]
    large = size * _OVERSAMPLING
    canvas = Image.new("L", (2 * large, 2 * large))
    ImageDraw.Draw(canvas).text((large // 2, large // 2), character, fill=255, font=_font(large))
    ink = canvas.crop(canvas.getbbox())
    scale = large / max(ink.size)
    ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BILINEAR)
    square = Image.new("L", (large, large))
    square.paste(ink, ((large - ink.width) // 2, (large - ink.height) // 2))
    return np.asarray(square.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255.0


@lru_cache(maxsize=4096)
def silhouette(name: str, size: int) -> np.ndarray:
    """The glyph's mask with its holes filled, (size, size) bool: what the detector has to find."""
    from scipy.ndimage import binary_fill_holes

    return binary_fill_holes(glyph(name, size) > 0.35)
