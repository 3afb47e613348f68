"""Applying an example and waiting until it is ready, with what the resource says of itself meanwhile."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import jobs
from .board import Board, Step, elapsed
from .errors import DemoError
from .kubernetes import Kubernetes
from .settings import NAMESPACE, ROOT, Settings

# An engine took 60 s to start beside other work on two processors; ten times that is no slowness any more.
READY_SECONDS = 600


async def deploy(board: Board, settings: Settings, kubernetes: Kubernetes, *, example: Path, name: str) -> None:
    """Apply an example and wait until it is ready.

    Args:
        board: where it is shown.
        settings: whose logs it writes.
        kubernetes: the cluster.
        example: a file of the repository with one LLMDeployment.
        name: of that LLMDeployment.

    Raises:
        DemoError: it cannot become ready, or was not in time; the message is what the resource says.
    """
    with board.step(f"kubectl apply -f {example}"):
        await kubernetes.run("apply", f"--namespace={NAMESPACE}", f"--filename={ROOT / example}")
    with board.step(f"kubectl wait --for=condition=Ready llmdeploy/{name}") as step:
        waiting = asyncio.create_task(
            jobs.run(
                step,
                [
                    kubernetes.kubectl,
                    "wait",
                    "--for=condition=Ready",
                    f"--namespace={NAMESPACE}",
                    f"llmdeployment/{name}",
                    f"--timeout={READY_SECONDS}s",
                ],
                log=settings.log(f"ready-{name}"),
                environment=kubernetes.environment,
            )
        )
        telling = asyncio.create_task(_tell_status(step, kubernetes, name))
        try:
            await asyncio.wait({waiting, telling}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                await telling  # raises what cannot be waited for
            await _explained(waiting, kubernetes, name)
        finally:
            for task in (waiting, telling):
                task.cancel()
            await asyncio.gather(waiting, telling, return_exceptions=True)


async def _tell_status(step: Step, kubernetes: Kubernetes, name: str) -> None:
    """Show what the resource says of itself.

    Raises:
        DemoError: it says that waiting will not help.
    """
    while True:
        with suppress(DemoError):  # a question that was not answered is asked again; kubectl wait tells of real trouble
            found = await conditions(kubernetes, name)
            step.tell(said(found.get("Ready")))
            if found.get("Stalled", {}).get("status") == "True":
                break
        await asyncio.sleep(1)
    raise DemoError(
        f"{name} cannot become ready. It says: {said(found.get('Ready') or found['Stalled'])}\n"
        f"  More: {kubectl(kubernetes)} describe llmdeploy {name}"
    )


async def _explained(waiting: asyncio.Task[None], kubernetes: Kubernetes, name: str) -> None:
    """Wait; when it was in vain, say what the resource says instead of what kubectl says."""
    try:
        await waiting
    except DemoError as error:
        ready = None
        with suppress(DemoError):
            ready = (await conditions(kubernetes, name)).get("Ready")
        if ready is None:
            raise
        raise DemoError(
            f"{name} was not ready in {elapsed(READY_SECONDS)}. It says: {said(ready)}\n"
            f"  More: {kubectl(kubernetes)} describe llmdeploy {name}"
        ) from error


async def conditions(kubernetes: Kubernetes, name: str) -> dict[str, dict[str, Any]]:
    """Read the conditions of an LLMDeployment by type; none where it is not there."""
    found = await kubernetes.read("llmdeployment", name, namespace=NAMESPACE) or {}
    return {one["type"]: one for one in found.get("status", {}).get("conditions", [])}


def said(condition: dict[str, Any] | None) -> str:
    """Give a condition in words."""
    return f"{condition.get('reason')}: {condition.get('message')}" if condition else "the operator has not seen it yet"


def kubectl(kubernetes: Kubernetes) -> str:
    """Name kubectl as a person can call it."""
    return f"KUBECONFIG={kubernetes.kubeconfig} {'kubectl' if shutil.which('kubectl') else kubernetes.kubectl}"
