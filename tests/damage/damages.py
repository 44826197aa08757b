"""What may happen to a file: bits, bytes, values, depth, links and special files. Each is drawn by hypothesis."""

import importlib
import io
import json
import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

HALF, DEEP = "\ud800", "@deep@"
MODULE = "code_that_data_names"  # nothing may import it
VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        -5,
        1,
        2,
        7.5,
        -0.5,
        1e6,
        1e300,
        -1e300,
        10**5,
        10**9,
        2**31,
        2**63,
        10**30,
        float("nan"),
    ),
    *(float("inf"), "", "x", "nan", "../../etc/passwd", "/dev/zero", "a\0b", "=1+1", HALF, "x" * 100_000),
    *(MODULE, [MODULE, "X"], f"{MODULE}.X"),
    *([], {}, [[]], [None], ["x"], [1, 2], {"a": 1}, {"file": 3}, DEEP),
)


def _flip(data: bytes, place: float, number: int) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[min(int(place * len(data)), len(data) - 1)] ^= 1 << number % 8
    return bytes(changed)


def _overwrite(data: bytes, place: float, number: int) -> bytes:
    at = int(place * len(data))
    return data[:at] + bytes([number % 256]) * 8 + data[at + 8 :]


def _cut(data: bytes, place: float, number: int) -> bytes:
    return data[: int(place * len(data))]


def _remove(data: bytes, place: float, number: int) -> bytes:
    at = int(place * len(data))
    return data[:at] + data[at + 1 + number % 600 :]


def _insert(data: bytes, place: float, number: int) -> bytes:
    at = int(place * len(data))
    return data[:at] + bytes([number % 256]) * (1 + number % 5) + data[at:]


def _zero(data: bytes, place: float, number: int) -> bytes:
    at = int(place * len(data))
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


def _double(data: bytes, place: float, number: int) -> bytes:
    return data + data[int(place * len(data)) :]


BYTES: dict[str, Callable[[bytes, float, int], bytes]] = {
    "flip a bit": _flip,
    "overwrite eight bytes": _overwrite,
    "cut": _cut,
    "remove bytes": _remove,
    "insert bytes": _insert,
    "zero a block": _zero,
    "repeat the end": _double,
}


# --- values in JSON -------------------------------------------------------------------------------------------------


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def _changed(document: Any, path: tuple, how: str, value: Any) -> Any:
    if not path:
        return value
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    if how == "a value":
        holder[key] = value
    elif how == "drop a value":
        del holder[key]
    elif how == "rename a field" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif isinstance(holder, list):
        holder.append(holder[key])  # twice
    return document


def _in_json(data: bytes, place: float, number: int, how: str) -> bytes:
    lines = data.decode().split("\n") if b"\n{" in data else [data.decode()]
    filled = [i for i, line in enumerate(lines) if line.strip()]
    chosen = filled[min(int(place * len(filled)), len(filled) - 1)]
    document = json.loads(lines[chosen])
    places = list(_places(document))
    path = places[number // len(VALUES) % len(places)]
    document = _changed(document, path, how, VALUES[number % len(VALUES)])
    text = json.dumps(document, ensure_ascii=True).replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
    lines[chosen] = text
    return "\n".join(lines).encode()


JSON = ("a value", "drop a value", "rename a field", "twice")


# --- special files and pictures -------------------------------------------------------------------------------------


def _png(width: int, height: int, body: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


PICTURES = {
    "a bomb": _png(60_000, 60_000, zlib.compress(bytes(1000))),
    "no pixels": _png(0, 0, zlib.compress(b"")),
    "rows missing": _png(16, 16, zlib.compress(bytes(100))),
}


class _Code:
    """What a pickle of it runs when it is read."""

    def __reduce__(self) -> tuple:
        return importlib.import_module, (MODULE,)


PICKLES = {"a pickle": lambda: pickle.dumps({"model": _Code()}), "a pickled array": lambda: _pickled_array()}


def _pickled_array() -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.savez(file, mu=np.array([_Code()], dtype=object), sigma=np.eye(2))
    return file.getvalue()


def _replace_special(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link to itself":
        path.symlink_to(path)
    elif kind == "a sparse giant":
        with open(path, "wb") as file:
            file.truncate(2**37)
    # else: gone


SPECIAL = ("gone", "a pipe", "a device", "a folder", "a link to itself", "a sparse giant")


# --- tensors --------------------------------------------------------------------------------------------------------


def _in_tensors(data: bytes, place: float, number: int, how: str) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    names = sorted(name for name in header if name != "__metadata__")
    name = names[number % len(names)]
    begin, end = header[name]["data_offsets"]
    if how == "a number":
        import numpy as np

        widths = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}
        kind = header[name]["dtype"]
        width = np.dtype(widths.get(kind, "u1")).itemsize
        values = np.frombuffer(data[8 + size + begin : 8 + size + end], widths.get(kind, "u1")).copy()
        if not len(values):
            return data
        wrong = (np.nan, np.inf, 1e30, -3.0, 0.5)[number % 5] if kind in widths else 255
        with np.errstate(over="ignore"):
            values[int(place * (len(values) - 1))] = wrong
        at = 8 + size + begin
        assert len(values) * width == end - begin
        return data[:at] + values.tobytes() + data[at + end - begin :]
    header[name][("dtype", "shape", "data_offsets")[number % 3]] = ("I8", [10**12], [0, 2**62])[number % 3]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


TENSORS = ("a number", "a header")


def damages(path: str, special: bool = True) -> list[str]:
    """The names of what may happen to a file of that name; `special`: whether anything may stand in its place."""
    names = [*BYTES, *BYTES, *(SPECIAL if special else ())]
    plain = path.removesuffix(".gz")
    if plain == path and path.endswith((".json", ".jsonl")):
        names += [*JSON, *JSON, *JSON, "a value", "a value", "a value"]
    if path.endswith(".safetensors"):
        names += [*TENSORS, *TENSORS]
    if path.endswith((".png", ".jpg")):
        names += list(PICTURES)
    if path.endswith((".pth", ".npz", ".safetensors")):
        names += list(PICKLES)
    return names


numbers = st.integers(0, 10**6)
places = st.floats(0, 1, exclude_max=True)


def damage(path: Path, how: str, place: float, number: int) -> None:
    """Do it."""
    if how in SPECIAL:
        return _replace_special(path, how)
    data = path.read_bytes()
    if how in BYTES:
        data = BYTES[how](data, place, number)
    elif how in PICTURES:
        data = PICTURES[how]
    elif how in PICKLES:
        data = PICKLES[how]()
    elif how in TENSORS:
        data = _in_tensors(data, place, number, how)
    else:
        data = _in_json(data, place, number, how)
    path.unlink()
    path.write_bytes(data)
