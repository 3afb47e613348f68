"""An operator as a process of its own, which begins where its imports end.

They take a second of a processor, and the tests start some three hundred operators. Python's fork server imports them
once. That `python -m sundog_operator` runs whole is seen in the images, by the bench and end to end.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import unused_port

from tests.apiserver.operator.world import until

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
FORKS = multiprocessing.get_context("forkserver")
# pytest is what runs here, and what multiprocessing would import again in each process.
FORKS.set_forkserver_preload(["sundog_operator.__main__", "tests.apiserver.operator.process", "pytest"])


def _run(environment: Mapping[str, str], log: Path) -> None:
    """Become the operator."""
    # The fork server ends with the test's process, however that ends.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(log.parent)
    with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)
    warnings.simplefilter("error")
    from sundog_operator.__main__ import main  # noqa: PLC0415 of the fork server, not of the tests

    sys.exit(main())


class Operator:
    """The operator, with its log in a file."""

    def __init__(self, *, kubeconfig: Path, folder: Path, name: str = "operator-0", **settings: str) -> None:
        self.name = name
        self.log_file = folder / f"{name}-{len(list(folder.glob('*.log')))}.log"
        self.http_port = unused_port()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig),
            "SUNDOG_HTTP_PORT": str(self.http_port),
            "SUNDOG_IDENTITY": name,
            **{f"SUNDOG_{key.upper()}": value for key, value in settings.items()},
        }
        self._process: ForkServerProcess | None = None

    async def start(self) -> None:
        """Start it; it may take seconds until it does something."""
        self.log_file.touch()
        self._process = FORKS.Process(target=_run, args=(self._environment, self.log_file))
        await asyncio.to_thread(self._process.start)

    @property
    def pid(self) -> int:
        assert self._process
        assert self._process.pid
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self, seconds: float = 30.0) -> int:
        """Wait for its end; gives its exit code."""
        assert self._process
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, gone.set)
        try:
            await asyncio.wait_for(gone.wait(), seconds)
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

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
