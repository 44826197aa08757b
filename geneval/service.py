"""GenEval as a reward over HTTP: JSON or a form in, strict and graded rewards out. Needs the extra `serve`.

    POST /  {"images": [base64 of PNG, JPEG or WEBP, ...], "meta_datas": [metadata or text, ...], "only_strict": false}
    POST /  multipart/form-data of the same names, images as files (geneval/forms.py)

The answer's names are those of flow_grpo's GenEval server. That server unpickles what it is sent, which runs anything
that the sender wishes; this one does not: in a client of it, send JSON with base64 images in place of the pickle.
"""

import asyncio
import base64
import binascii
import hmac
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geneval.batches import JudgeQueue, QueueFull
from geneval.flow_grpo import grouped
from geneval.forms import read_form
from geneval.images import ImageError, decode_image
from geneval.json_files import parse_json
from geneval.judge import Judge
from geneval.prompts import Prompt

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from PIL import Image

_LOOK_FOR_CLIENT = 0.5  # s between two looks whether the client is still there
_MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Bounds of the service."""

    host: str = "127.0.0.1"  # any other than a loopback address needs a token
    port: int = 18085  # where flow_grpo's clients look; 0: any free one
    token: str = ""  # asked for as `Authorization: Bearer TOKEN`
    max_waiting: int = 512  # images that wait or are judged; more are answered 503 with Retry-After
    max_images: int = 256  # a request
    max_megabytes: int = 64  # a request's body
    max_pixels: int = 4_200_000  # an image
    max_request_pixels: int = 100_000_000  # a request's images together
    max_bodies: int = 16  # that are read at once
    read_seconds: float = 30.0  # for a body to arrive

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            raise ValueError(f"--host {self.host} can be reached from other machines: give --token-file too")


class Refused(Exception):
    """A request that is not answered with rewards: HTTP status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def create_app(judge: Judge, config: ServiceConfig = ServiceConfig()) -> "FastAPI":
    """The service as an ASGI application."""
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse, PlainTextResponse

    service = _Service(judge, config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.queue.run())
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    app = FastAPI(title="GenEval", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    async def rewards(request: Request) -> Response:
        try:
            answer, status = await service.rewards(request), 200
        except Refused as refused:
            answer, status = {"error": str(refused)}, refused.status
        service.answered[status] += 1
        headers = {"Retry-After": "1"} if status == 503 else {}
        return JSONResponse(answer, status, headers)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ready", **service.identity()})

    async def metrics(request: Request) -> Response:
        try:
            service.check_sender(request)
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        return PlainTextResponse(service.metrics())

    for path in ("/", "/judge"):
        app.add_api_route(path, rewards, methods=["POST"])
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    return app


def serve(judge: Judge, config: ServiceConfig) -> None:
    """Serve until interrupted."""
    import uvicorn

    # A connection that says nothing is closed by the read time; uvicorn's own limit is on those it accepts at all.
    uvicorn.run(
        create_app(judge, config),
        host=config.host,
        port=config.port,
        log_level="warning",
        limit_concurrency=16 * config.max_bodies,
        timeout_graceful_shutdown=10,
        server_header=False,
    )


class _Service:
    def __init__(self, judge: Judge, config: ServiceConfig) -> None:
        self.judge, self.config = judge, config
        self.queue = JudgeQueue(judge, config.max_waiting)
        self.answered: Counter[int] = Counter()
        self.num_bodies = 0
        self.threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")

    async def rewards(self, request: "Request") -> dict[str, Any]:
        """The answer to one request; `Refused` says why there is none."""
        self.check_sender(request)
        if self.num_bodies >= self.config.max_bodies:
            raise Refused(503, f"{self.num_bodies} requests are being read; come again in a second")
        self.num_bodies += 1
        try:
            record = await self._record(request)
            loop = asyncio.get_running_loop()
            pictures, prompts, only_strict = await loop.run_in_executor(self.threads, self._parsed, record)
        finally:
            self.num_bodies -= 1
        lines = await self._detected(request, pictures, prompts)
        return await loop.run_in_executor(self.threads, self._answer, lines, prompts, only_strict)

    def check_sender(self, request: "Request") -> None:
        """The token where one is asked for; else the name by which a loopback service is called.

        Without the second a web page could have its own name resolve to this machine and send requests from a browser;
        and a page of another site could send forms, which browsers mark with their origin.
        """
        if self.config.token:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self.config.token}".encode()):
                raise Refused(401, "give the service's token as `Authorization: Bearer TOKEN`")
        elif not is_loopback(_without_port(request.headers.get("host", ""))):
            raise Refused(403, "this service answers to localhost only; start it with --token-file for other names")
        elif (origin := request.headers.get("origin")) and not is_loopback(urlsplit(origin).hostname or ""):
            raise Refused(403, f"a page of {origin} may not ask this service; start it with --token-file for that")

    async def _record(self, request: "Request") -> Any:
        """The bytes of JSON, or the fields of a form."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "multipart/form-data"):
            raise Refused(
                415,
                "send JSON (Content-Type: application/json) with base64 images, or a multipart form with image files. "
                "A pickle, as flow_grpo's server takes, is not read: unpickling runs whatever its sender wishes",
            )
        body = await self._body(request)
        if kind == "application/json":
            return body
        try:
            return await read_form(request.headers, body, self.config.max_images)
        except ValueError as error:
            raise Refused(422, str(error)) from None

    async def _body(self, request: "Request") -> bytes:
        limit = self.config.max_megabytes * _MEGABYTE
        too_large = Refused(413, f"the body is larger than {self.config.max_megabytes} MB; send fewer images at once")
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise too_large
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self.config.read_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise too_large
                    chunks.append(chunk)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self.config.read_seconds:g} s") from None
        except Refused:
            raise
        except Exception:  # the server's own ClientDisconnect
            raise Refused(499, "the client left") from None
        return b"".join(chunks)

    def _parsed(self, record: Any) -> tuple[list["Image.Image"], list[Prompt], bool]:
        try:
            if isinstance(record, bytes):
                record = parse_json(record.decode("utf-8"), "body")
            images, asked, only_strict = _fields(record, self.config.max_images)
            prompts = self.judge.prompts(asked)
            if zero := [c for p in prompts for c in p.include if c.count < 1]:
                raise ValueError(f"the strict reward needs a count of 1 or more for {zero[0].class_name!r}")
            return self._pictures(images), prompts, only_strict
        except (ValueError, ImageError) as error:
            raise Refused(422, str(error)) from None

    def _pictures(self, images: Sequence[Any]) -> list["Image.Image"]:
        pictures, num_pixels = [], 0
        for i, text in enumerate(images):
            pictures.append(self._picture(text, f"images[{i}]"))
            num_pixels += pictures[-1].width * pictures[-1].height
            if num_pixels > self.config.max_request_pixels:
                raise ValueError(f"the images have more than {self.config.max_request_pixels:,} pixels together")
        return pictures

    def _picture(self, text: Any, where: str) -> "Image.Image":
        if isinstance(text, bytes):  # a form's file
            return decode_image(text, where, self.config.max_pixels)
        if not isinstance(text, str):
            raise ValueError(f"{where}: must be base64 text, not {type(text).__name__}")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"{where}: not base64") from None
        return decode_image(data, where, self.config.max_pixels)

    async def _detected(self, request: "Request", pictures: list["Image.Image"], prompts: list[Prompt]) -> list[Any]:
        if not pictures:
            return []
        task = asyncio.create_task(self.queue.detect(pictures, prompts))
        while not (await asyncio.wait({task}, timeout=_LOOK_FOR_CLIENT))[0]:
            if await request.is_disconnected():
                task.cancel()
                raise Refused(499, "the client left")
        try:
            return task.result()
        except QueueFull as full:
            raise Refused(503, str(full)) from None
        except Exception as error:
            raise Refused(500, f"the judge failed ({type(error).__name__}: {error})") from None

    def _answer(self, lines: Sequence[Any], prompts: Sequence[Prompt], only_strict: bool) -> dict[str, Any]:
        """flow_grpo's five fields by its rule, and beside them the benchmark's verdicts, grades and reasons."""
        judged = self.judge.verdicts(lines, prompts)
        strict = self.judge.verdicts(lines, prompts, strict=True)
        tags = [prompt.tag for prompt in prompts]
        strict_rewards = [float(verdict.correct) for verdict in strict]
        # With only_strict that server does not judge by the benchmark's rule, and answers zeros.
        rewards = [float(verdict.correct and not only_strict) for verdict in judged]
        return {
            "scores": [verdict.grade for verdict in strict],
            "rewards": rewards,
            "strict_rewards": strict_rewards,
            "group_rewards": grouped(tags, rewards),
            "group_strict_rewards": grouped(tags, strict_rewards),
            "correct": [verdict.correct for verdict in judged],
            "grades": [verdict.grade for verdict in judged],
            "reasons": [verdict.reason for verdict in judged],
            "strict_reasons": [verdict.reason for verdict in strict],
            **self.identity(),
        }

    def identity(self) -> dict[str, Any]:
        """What must stand beside the numbers."""
        found: dict[str, Any] = {"comparable": not self.judge.note, "detector": self.judge.identity.get("weights", "")}
        return found | ({"note": self.judge.note} if self.judge.note else {})

    def metrics(self) -> str:
        """In Prometheus' text form."""
        lines = ["# TYPE geneval_requests_total counter"]
        lines += [f'geneval_requests_total{{status="{status}"}} {n}' for status, n in sorted(self.answered.items())]
        lines += ["# TYPE geneval_images_total counter", f"geneval_images_total {self.queue.num_judged}"]
        lines += ["# TYPE geneval_images_waiting gauge", f"geneval_images_waiting {self.queue.num_images}"]
        return "".join(f"{line}\n" for line in lines)


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() and not host.endswith("]") else host


def _fields(record: Any, max_images: int) -> tuple[list[Any], list[Any], bool]:
    if not isinstance(record, dict):
        raise ValueError("the body must be a JSON object")
    if unknown := sorted(set(record) - {"images", "meta_datas", "only_strict"}):
        raise ValueError(f"unknown {unknown[0]!r}; a request has images, meta_datas and only_strict")
    images, asked, only_strict = record.get("images"), record.get("meta_datas"), record.get("only_strict", False)
    if not isinstance(images, list) or not isinstance(asked, list) or not isinstance(only_strict, bool):
        raise ValueError("images and meta_datas must be lists, and only_strict true or false")
    if len(images) != len(asked):
        raise ValueError(f"{len(images)} images and {len(asked)} meta_datas; give one an image")
    if len(images) > max_images:
        raise ValueError(f"{len(images)} images, at most {max_images} a request")
    return images, asked, only_strict
