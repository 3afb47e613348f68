"""The client: streams from an OpenAI-compatible address, each watched for cuts, gaps and errors.

Open loop: a request is sent when it is due, whatever became of those before it. One process on one core drives a few
hundred streams; `Outcome.lateness` tells when that was too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp

from tests.load.arrivals import Arrival, paced, steady
from tests.load.outcome import Fault, Outcome, Record, missing

# A request that takes longer than this is hung; streams get it on top of their own length.
PATIENCE_SECONDS = 180.0
DETAIL_CHARACTERS = 160
SHORT_TOKENS = 4

Check = Callable[[str, int], str]
"""Given all of an answer's text and how many tokens were asked for: what it lacks, or nothing."""


def any_text(text: str, _tokens: int) -> str:
    """Check an answer of which only is known that there must be one: a real model's."""
    return "" if text else "no text"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go."""

    url: str
    """Base URL, with ``/v1``."""
    model: str
    check: Check = missing
    """By default the answer must be the fake engine's, gap-free."""


@dataclass(slots=True)
class _Text:
    """What has come of an answer."""

    pieces: list[str] = field(default_factory=list)
    done: bool = False
    error: str = ""


class Client:
    """Requests to one target; an async context manager. Its times begin when it is entered."""

    def __init__(self, target: Target, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.target = target
        self.outcome = Outcome()
        self.over = asyncio.Event()
        """Once set, nothing new is sent."""
        self._patience_seconds = patience_seconds

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self._patience_seconds, sock_connect=20),
        )
        self._began = asyncio.get_running_loop().time()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    @property
    def seconds(self) -> float:
        """How long ago it was entered."""
        return asyncio.get_running_loop().time() - self._began

    @contextlib.asynccontextmanager
    async def sending(self, arrivals: Iterable[Arrival]) -> AsyncIterator[None]:
        """Send requests as they arrive for as long as the block runs; afterwards wait for those under way to end."""
        async with self.until_over() as group:
            group.create_task(self.replay(arrivals))
            yield

    @contextlib.asynccontextmanager
    async def until_over(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Run tasks beside the block; once it ends, well or not, they are told that it is over and waited for.

        A block that is cancelled (Ctrl-C) takes them with it at once.
        """
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as error:  # noqa: BLE001  the group would cancel the streams, and they would look cut
                failed = error
            finally:
                self.over.set()
        if failed:
            raise failed

    async def replay(self, arrivals: Iterable[Arrival]) -> None:
        """Send each request when it is due, and wait for the last to end."""
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                if await self._over_before(arrival.at):
                    return
                group.create_task(self.send(arrival))

    async def _over_before(self, at: float) -> bool:
        with contextlib.suppress(TimeoutError):
            # At least once through the loop: what is due already must not keep streams from being read.
            async with asyncio.timeout(max(0.001, at - self.seconds)):
                await self.over.wait()
        return self.over.is_set()

    async def send(self, arrival: Arrival) -> Record:
        """Send one request now, read its answer to the end, and record what came of it. It raises nothing of that."""
        record = Record(arrival.at, arrival.prompt_tokens, arrival.output_tokens)
        self.outcome.records.append(record)
        text = _Text()
        try:
            await self._ask(record, text)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            began = record.first_byte is not None
            _fail(record, Fault.CUT if began else Fault.FAILED, f"{type(error).__name__} {error}")
        except (ValueError, LookupError, AttributeError) as error:
            _fail(record, Fault.ERROR, f"what came is no stream of chat completions: {type(error).__name__} {error}")
        except asyncio.CancelledError:
            _fail(record, Fault.ABANDONED, "the load was over")
            raise
        else:
            self._judge(record, text)
        finally:
            record.ended = self.seconds
        return record

    async def _ask(self, record: Record, text: _Text) -> None:
        body = {
            "model": self.target.model,
            "messages": [{"role": "user", "content": " ".join(["count"] * record.prompt_tokens)}],
            "stream": True,
            "max_tokens": record.output_tokens,
        }
        record.sent = self.seconds
        async with self._session.post(f"{self.target.url}/chat/completions", json=body) as response:
            record.first_byte = self.seconds
            record.status = response.status
            if response.status != 200:
                record.retry_after = _seconds(response.headers.get("retry-after"))
                kind = Fault.REFUSED if response.status == 429 else Fault.ERROR
                _fail(record, kind, f"HTTP {response.status} {await response.text()}")
                return
            rest = b""
            # Not line by line: a few hundred streams of a fast engine would keep a core busy with empty lines.
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: "):
                        self._take(record, text, line[6:])

    def _take(self, record: Record, text: _Text, data: bytes) -> None:
        if data.strip() == b"[DONE]":
            text.done = True
            return
        event = json.loads(data)
        if "error" in event:
            text.error = json.dumps(event["error"])
            return
        piece = (event["choices"][0]["delta"].get("content") or "") if event.get("choices") else ""
        if piece:
            now = self.seconds
            if record.last_token is None:
                record.first_token = now
            else:
                record.longest_pause = max(record.longest_pause, now - record.last_token)
            record.last_token = now
            record.tokens += 1
            text.pieces.append(piece)

    def _judge(self, record: Record, text: _Text) -> None:
        if record.fault:
            return
        if text.error:
            _fail(record, Fault.ERROR, text.error)
        elif lacks := self.target.check("".join(text.pieces), record.output_tokens):
            _fail(record, Fault.GAP, lacks)
        elif not text.done:
            _fail(record, Fault.UNENDED, "no [DONE]")


def _fail(record: Record, fault: Fault, detail: str) -> None:
    record.fault, record.detail = fault, detail[:DETAIL_CHARACTERS]


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header in seconds; its other form, a date, nobody here sends."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None


@contextlib.asynccontextmanager
async def load(
    target: Target, arrivals: Iterable[Arrival], *, patience_seconds: float = PATIENCE_SECONDS
) -> AsyncIterator[Client]:
    """Send requests as they arrive for as long as the block runs; afterwards wait for those under way to end."""
    async with Client(target, patience_seconds=patience_seconds) as client, client.sending(arrivals):
        yield client


@contextlib.asynccontextmanager
async def requests(url: str, *, model: str, per_second: float, check: Check = any_text) -> AsyncIterator[Outcome]:
    """Send short requests at a steady rate for as long as the block runs."""
    arrivals = paced(steady(per_second), prompt_tokens=1, output_tokens=SHORT_TOKENS)
    async with load(Target(url, model, check), arrivals) as client:
        yield client.outcome


@contextlib.asynccontextmanager
async def streams(
    url: str, *, model: str, count: int, seconds: float, rate: float, spread: float = 10.0
) -> AsyncIterator[Outcome]:
    """Keep `count` streams of `seconds` open for as long as the block runs; afterwards wait for the last to end.

    `rate` is the tokens per second of the engine, so that a stream takes as long as is asked for. They begin over
    `spread` seconds, so that some stream is at each of its stages at any time; with 0 they are a step.
    """
    started = asyncio.Semaphore(0)

    async def one(client: Client, delay: float) -> None:
        await asyncio.sleep(delay)
        started.release()
        while True:
            await client.send(Arrival(client.seconds, prompt_tokens=1, output_tokens=int(seconds * rate)))
            if client.over.is_set():
                return

    async with (
        Client(Target(url, model), patience_seconds=seconds + PATIENCE_SECONDS) as client,
        client.until_over() as group,
    ):
        for number in range(count):
            group.create_task(one(client, number * min(seconds, spread) / count))
        for _ in range(count):
            await started.acquire()
        yield client.outcome
