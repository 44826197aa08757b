"""Requests of a service gathered into the detector's batches: bounded, in order, one failing alone."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geneval.detections import ImageDetections
from geneval.judge import Judge
from geneval.prompts import Prompt

if TYPE_CHECKING:
    from PIL import Image


class QueueFull(RuntimeError):
    """As many images wait as may; the client should come again."""


@dataclass(frozen=True)
class _Job:
    pictures: "Sequence[Image.Image]"
    prompts: Sequence[Prompt]
    answer: "asyncio.Future[list[ImageDetections]]"


class JudgeQueue:
    """One thread judges; what waits meanwhile is judged together. A job whose client left is not begun."""

    def __init__(self, judge: Judge, max_images: int) -> None:
        self.judge, self.max_images = judge, max_images
        self.num_images = 0  # waiting or being judged
        self.num_judged = 0
        self._waiting: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")

    async def detect(self, pictures: "Sequence[Image.Image]", prompts: Sequence[Prompt]) -> list[ImageDetections]:
        """The detections of a request; `QueueFull` at once where too many images wait."""
        if self.num_images and self.num_images + len(pictures) > self.max_images:
            raise QueueFull(f"{self.num_images} images wait, at most {self.max_images} may; come again in a second")
        job = _Job(pictures, prompts, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self.num_images += len(pictures)
        self._wake.set()
        try:
            return await job.answer
        finally:
            self.num_images -= len(pictures)

    async def run(self) -> None:
        """Judge until cancelled; then nothing that waits is left without an answer."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while jobs := self._next():
                    await self._judge(jobs)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            for job in self._waiting:
                if not job.answer.done():
                    job.answer.set_exception(QueueFull("the service is closing"))

    def _next(self) -> list[_Job]:
        """The jobs of the next batch, in order: enough to fill the detector's, at least one."""
        jobs: list[_Job] = []
        while self._waiting and sum(len(job.pictures) for job in jobs) < self.judge.batch_size:
            job = self._waiting.popleft()
            if not job.answer.done():  # else its client left
                jobs.append(job)
        return jobs

    async def _judge(self, jobs: list[_Job]) -> None:
        try:
            await self._judge_together(jobs)
        except Exception as error:
            if len(jobs) > 1:  # the others are not to blame
                for job in jobs:
                    await self._judge([job])
            elif not jobs[0].answer.done():
                jobs[0].answer.set_exception(error)

    async def _judge_together(self, jobs: list[_Job]) -> None:
        pictures: list[Any] = [picture for job in jobs for picture in job.pictures]
        prompts = [prompt for job in jobs for prompt in job.prompts]
        loop = asyncio.get_running_loop()
        found = iter(await loop.run_in_executor(self._thread, self.judge.detect, pictures, prompts))
        self.num_judged += len(pictures)
        for job in jobs:
            lines = [next(found) for _ in job.pictures]
            with contextlib.suppress(asyncio.InvalidStateError):  # its client left meanwhile
                job.answer.set_result(lines)
