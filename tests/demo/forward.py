"""kubectl port-forward: how a Service is reached where nothing leads from this machine to the cluster's addresses."""

import asyncio
from contextlib import suppress
from pathlib import Path

from tests.cluster.processes import Daemon

from . import jobs
from .errors import DemoError
from .kubernetes import Kubernetes
from .settings import NAMESPACE

FORWARD_SECONDS = 30


async def forward(forwarder: Daemon, kubernetes: Kubernetes, *, service: str, port: int) -> None:
    """Forward a port of this machine to a Service in the background.

    Raises:
        DemoError: it did not come up; the message is what kubectl said.
    """
    forwarder.log.unlink(missing_ok=True)
    forwarder.start(
        [
            str(kubernetes.kubectl),
            "port-forward",
            "--address=127.0.0.1",
            f"--namespace={NAMESPACE}",
            f"service/{service}",
            f"{port}:8000",
        ],
        environment={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **kubernetes.environment},
    )
    for _ in range(FORWARD_SECONDS * 10):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if not forwarder.running:
            break
        await asyncio.sleep(0.1)
    forwarder.stop()
    raise DemoError(
        f"kubectl port-forward did not come up: {jobs.last_line(forwarder.log)}\n  All of its output: {forwarder.log}"
    )
