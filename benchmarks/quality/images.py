"""Images, with the prompts beside them, from a folder, a GenEval folder or WebDataset shards, in a fixed order.

How pictures that are not plain RGB are read: transparency is laid over white; palettes are resolved first; grey is
repeated in three channels (16-bit grey divided by 257); CMYK is converted by Pillow without a color profile; EXIF
rotation is not applied.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightgen.disk.json_files import parse_json, read_text, typed
from lightgen.disk.png import check_png
from lightgen.disk.regular import LARGEST, regular_file
from lightgen.disk.tar_files import content, read_members

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_PIXELS = 64_000_000
MAX_BYTES = 2**28  # of one picture, or of one record


class ImageError(ValueError):
    """An image or a set of images that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class ImageEntry:
    """Where one image's bytes lie: `size` bytes at `offset` of `path` (a picture file or a tar shard)."""

    id: str
    path: Path
    offset: int = 0
    size: int
    prompt: str | None = None

    def read(self) -> bytes:
        with open(regular_file(self.path, LARGEST), "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise ImageError(f"{self.path} ends inside {self.id}; copy the file again")
        return data


def list_images(source: Path, limit: int | None = None) -> list[ImageEntry]:
    """Entries of a folder, a GenEval folder, a folder of tar shards or one tar, sorted by id.

    `limit` keeps that many entries spread evenly over the list, so that every task of a GenEval folder stays present.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"no images: {source} does not exist")
    if source.is_file():
        entries = _shard_entries([source])
    elif shards := sorted(source.glob("*.tar")):
        entries = _shard_entries(shards)
    elif prompts := _geneval_prompts(source):
        entries = [entry for folder, prompt in prompts.items() for entry in _geneval_entries(source, folder, prompt)]
    else:
        entries = [_file_entry(source, path) for path in sorted(source.rglob("*")) if _is_image(path.name)]
    if not entries:
        raise ImageError(f"no images in {source}: expected {', '.join(SUFFIXES)} files, a GenEval folder or tar shards")
    if limit is None or limit >= len(entries):
        return entries
    if limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")
    return [entries[index * len(entries) // limit] for index in range(limit)]


def decode_image(data: bytes, name: str = "image"):
    """A PIL RGB image; ImageError for anything that is not a readable PNG, JPEG or WebP of at most 64 Mpx."""
    from PIL import Image

    try:
        check_png(data)
        image = Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{name} is {width} x {height} px, more than {MAX_PIXELS // 10**6} Mpx")
        image.load()
        return _to_rgb(image)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises anything from SyntaxError to struct.error on damaged files
        raise ImageError(f"{name} is not a readable PNG, JPEG or WebP image ({error})") from error


def refuse_corrupt(corrupt: Sequence[str], total: int, images: Path, skip_corrupt: bool) -> None:
    """ImageError that counts and names what cannot be read of `total` images, unless that is to be skipped."""
    if corrupt and not skip_corrupt:
        shown = "; ".join(corrupt[:5]) + ("; ..." if len(corrupt) > 5 else "")
        raise ImageError(
            f"{len(corrupt)} of {total} images in {images} cannot be read ({shown}); make them again, or pass "
            "--skip-corrupt, which puts their number into every result's name"
        )


def container(data: bytes) -> str:
    """PNG, JPEG or WEBP, from the first bytes."""
    if data.startswith(b"\x89PNG"):
        return "PNG"
    return "JPEG" if data.startswith(b"\xff\xd8") else "WEBP"


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _file_entry(root: Path, path: Path, prompt: str | None = None) -> ImageEntry:
    size = regular_file(path, MAX_BYTES).stat().st_size
    return ImageEntry(id=path.relative_to(root).as_posix(), path=path, size=size, prompt=prompt)


def _geneval_prompts(root: Path) -> dict[Path, str]:
    """Prompt of each `00000/` folder that has a metadata.jsonl."""
    prompts = {}
    for path in sorted(root.glob("[0-9]*/metadata.jsonl")):
        line = read_text(path).partition("\n")[0]
        advice = "it must be a GenEval metadata line with a prompt"
        prompts[path.parent] = typed(parse_json(line, str(path), advice), str(path), prompt=str)["prompt"]
    return prompts


def _geneval_entries(root: Path, folder: Path, prompt: str) -> list[ImageEntry]:
    return [_file_entry(root, path, prompt) for path in sorted((folder / "samples").glob("*")) if _is_image(path.name)]


def _shard_entries(shards: Sequence[Path]) -> list[ImageEntry]:
    try:
        return [entry for shard in shards for entry in _entries_of_shard(shard)]
    except ValueError as error:
        raise ImageError(str(error)) from None


def _entries_of_shard(shard: Path) -> list[ImageEntry]:
    """The images of one tar; a sample is the files that share a name up to the first dot."""
    images, prompts = [], {}
    for member in read_members(shard):
        key, where = member.name.split(".", 1)[0], f"{shard}, {member.name}"
        if _is_image(member.name):
            images.append((key, member))
        elif member.name.endswith(".json"):
            record = parse_json(content(shard, member, MAX_BYTES), where, "write or fetch this shard again")
            prompts[key] = record.get("prompt") if isinstance(record, dict) else None
            if not isinstance(prompts[key], str | None):
                raise ImageError(f"{where}: prompt: expected a text")
    return [
        ImageEntry(
            id=f"{shard.name}/{member.name}",
            path=shard,
            offset=member.offset_data,
            size=member.size,
            prompt=prompts.get(key),
        )
        for key, member in images
    ]


def _to_rgb(image):
    from PIL import Image

    if image.mode in ("I", "I;16", "I;16B", "I;16L"):
        image = image.point(lambda value: value / 257).convert("L")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
