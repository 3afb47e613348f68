"""An operator as a process of its own."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import unused_port

from tests.apiserver.operator.world import until

ROOT = Path(__file__).parents[3]
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def end_with_the_test() -> None:
    """Let the kernel end this process when the test's is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Operator:
    """`python -m sundog_operator`, with its log in a file."""

    def __init__(self, *, kubeconfig: Path, folder: Path, name: str = "operator-0", **settings: str) -> None:
        self.name = name
        self.log_file = folder / f"{name}-{len(list(folder.glob('*.log')))}.log"
        self.http_port = unused_port()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(kubeconfig),
            "SUNDOG_HTTP_PORT": str(self.http_port),
            "SUNDOG_IDENTITY": name,
            **{f"SUNDOG_{key.upper()}": value for key, value in settings.items()},
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it may take seconds until it does something."""
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-W",
                "error",
                "-m",
                "sundog_operator",
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log_file.parent,
                preexec_fn=end_with_the_test,
            )

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        assert self._process
        if self.running:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def ended(self, seconds: float = 30.0) -> int:
        """Wait for its end; gives its exit code."""
        assert self._process
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def stop(self) -> int:
        """Ask it to end; gives its exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """End it at once, in whatever state it is."""
        if self.running:
            self.signal(signal.SIGKILL)
            await self.ended()

    def log(self) -> list[dict[str, Any]]:
        """Give its log, line by line; a line that is not JSON is a fault."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def logged(self, event: str) -> bool:
        """Whether it has logged such an event."""
        return any(line["event"] == event for line in self.log())

    async def leads(self) -> None:
        """Wait until it leads."""
        await until(lambda: not self.running or self.logged("leading"), f"{self.name} leads")
        assert self.running, self.log_file.read_text()

    async def get(self, path: str) -> tuple[int, str]:
        """Ask its own HTTP server; status 0: it does not answer."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(
                    f"http://127.0.0.1:{self.http_port}{path}", timeout=aiohttp.ClientTimeout(total=5)
                ) as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def metric(self, name: str) -> float:
        """Give a metric, by its name with its labels; 0 where it is not told yet."""
        _, text = await self.get("/metrics")
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))
