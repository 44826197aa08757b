"""A reward request as a form, which curl and browsers' tools send: a file an image, a field a prompt."""

from collections.abc import AsyncGenerator, Mapping
from importlib.util import find_spec
from typing import Any

from geneval.json_files import parse_json

_MAX_FIELD = 100_000  # bytes of metadata


async def read_form(headers: Mapping[str, str], body: bytes, max_images: int) -> dict[str, Any]:
    """The request's fields as those of JSON, images as bytes; ValueError says what is wrong with the form.

        curl -F images=@a.png -F 'meta_datas=a photo of a bench' -F images=@b.png -F 'meta_datas={"tag": ...}' URL

    A prompt is text, or metadata in JSON; the n-th is of the n-th image.
    """
    if find_spec("python_multipart") is None:
        raise ValueError("this service reads JSON only: forms need `pip install python-multipart` where it runs")
    _check_end(headers, body)
    from starlette.datastructures import Headers
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    limits = {"max_files": max_images, "max_fields": max_images + 1, "max_part_size": _MAX_FIELD}
    try:
        form = await MultiPartParser(Headers(headers), stream(), **limits).parse()
    except (MultiPartException, KeyError) as error:  # a boundary that is not there is a KeyError
        raise ValueError(f"the form cannot be read ({error})") from None
    record: dict[str, Any] = {"images": [], "meta_datas": []}
    try:
        for name, value in form.multi_items():
            if name == "images":
                record["images"].append(value if isinstance(value, str) else await value.read())
            elif name == "meta_datas" and isinstance(value, str):
                record["meta_datas"].append(_prompt(value))
            elif name == "only_strict" and value in ("true", "false"):
                record["only_strict"] = value == "true"
            else:
                raise ValueError(f"{name!r} is no field; give images as files, meta_datas, and only_strict=true|false")
    finally:
        await form.close()
    return record


def _check_end(headers: Mapping[str, str], body: bytes) -> None:
    """A form that was cut has no closing line, and its parts so far would be taken for all."""
    _, _, given = headers.get("content-type", "").partition("boundary=")
    boundary = given.partition(";")[0].strip().strip('"')
    if not boundary or not body.rstrip().endswith(f"--{boundary}--".encode()):
        raise ValueError("the form is cut: its closing line is missing")


def _prompt(text: str) -> Any:
    return parse_json(text, "meta_datas") if text.lstrip().startswith("{") else text
