"""The operator as a process of its own, seen from outside: the kernel's clocks and its own counters."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.bench.errors import BenchError
from tests.bench.figures import Counters, counters
from tests.bench.machine import cpu_seconds

OWN_REQUESTS = "sundog_api_requests_total"
"""The operator's own count of its requests, without watches."""
START_SECONDS = 60.0
PASSES_SECONDS = 120.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """How an operator is started."""

    kubeconfig: Path
    namespace: str
    head_url_template: str
    log: Path
    more: Mapping[str, str] = field(default_factory=dict)
    """Of the environment."""


class Operator:
    """One process."""

    def __init__(self, settings: Settings) -> None:
        """Start it."""
        self._settings = settings
        self._port = free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUNDOG_")}
        with settings.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sundog_operator"],
                env={
                    **inherited,
                    "KUBECONFIG": str(settings.kubeconfig),
                    "SUNDOG_NAMESPACE": settings.namespace,
                    "SUNDOG_HEAD_URL_TEMPLATE": settings.head_url_template,
                    "SUNDOG_HTTP_PORT": str(self._port),
                    **settings.more,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._http: aiohttp.ClientSession | None = None

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    async def until_leading(self) -> None:
        """Wait until it may write.

        Raises:
            BenchError: it ended, or does not come to it.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if (await self.counters()).total("sundog_leading"):
                    return
            except aiohttp.ClientError:
                if self._process.poll() is not None:
                    raise BenchError(f"the operator ended at its start; its log is {self._settings.log}") from None
            if time.monotonic() > deadline:
                raise BenchError(f"the operator does not lead after {START_SECONDS:g} s; see {self._settings.log}")
            await asyncio.sleep(POLL_SECONDS)

    async def until_passed(self, count: int) -> None:
        """Wait until it has looked at so many LLMDeployments.

        Raises:
            BenchError: it does not come to it.
        """
        deadline = time.monotonic() + PASSES_SECONDS
        while (await self.counters()).total("sundog_passes_total") < count:
            if time.monotonic() > deadline:
                raise BenchError(f"the operator has not looked at {count} LLMDeployments in {PASSES_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)

    async def counters(self) -> Counters:
        """Read what it counts itself. It costs the operator a millisecond: not while its time is being taken."""
        self._http = self._http or aiohttp.ClientSession(trust_env=False)
        async with self._http.get(f"http://127.0.0.1:{self._port}/metrics") as answer:
            return counters(await answer.text(), "sundog_")

    def cpu_seconds(self) -> float:
        """Give the processor time it has used, so far."""
        return cpu_seconds(self._process.pid)

    def memory_mebibytes(self) -> tuple[float, float]:
        """Give what is resident now, and what was at most."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS:", "VmHWM:")))
        return int(found["VmRSS"].split()[0]) / 1024, int(found["VmHWM"].split()[0]) / 1024

    async def kill(self) -> None:
        """End it as a lost node does, without a word."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it as Kubernetes does."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        try:
            await asyncio.to_thread(self._process.wait, 20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        if self._http:
            await self._http.close()
            self._http = None


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
