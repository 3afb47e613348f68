"""The second act: load rises, an HPA adds a replica, load falls, the replica goes, and no stream is cut."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console

from tests.cluster.processes import Daemon
from tests.load import plot
from tests.load.arrivals import paced
from tests.load.client import Client, Target
from tests.load.outcome import Outcome, duration
from tests.load.samples import Run, Sample
from tests.load.view import Scene, View
from tests.load.watch import Subject, watching

from .board import Board, elapsed
from .deploy import conditions, deploy, kubectl, said
from .errors import DemoError
from .forward import forward
from .kubernetes import Kubernetes, remove
from .settings import NAMESPACE, SCALED_EXAMPLE, SCALED_RESOURCE, Settings

# Ten seconds at the rate of the example: three ongoing requests when it is calm, fourteen when it is not, and the
# example has a replica for every eight.
STREAM_TOKENS: Final = 100
CALM, BUSY = 0.3, 1.4
# So that a person sees each state before the next begins.
LOOK_SECONDS: Final = 15.0
# An HPA looks every 15 s where nobody chose otherwise; then a replica has to start.
PATIENCE_SECONDS: Final = 300.0
FEW = "a few streams"
RISES = "load rises: the HPA adds a replica"
SHARED = "two replicas share it"
FALLS = "load falls: a replica finishes its streams and goes"
LAST = "the last streams end"


async def scale(settings: Settings, kubernetes: Kubernetes, *, console: Console) -> None:
    """Show replicas that follow the load.

    Raises:
        DemoError: they did not; the message is what the resource says.
    """
    console.print("\n[bold]Replicas that follow the load[/bold], with an engine without a model:\n")
    async with Board(console) as board:
        await deploy(board, settings, kubernetes, example=SCALED_EXAMPLE, name=SCALED_RESOURCE)
    async with _url(settings, kubernetes) as url:
        run = await _play(settings, kubernetes, url, console=console)
    picture = settings.folder / "autoscaling.svg"
    plot.save([run], picture)
    console.print(summary(run.outcome), soft_wrap=True)
    console.print(f"Load, replicas and latency over time: {picture}", soft_wrap=True)
    async with Board(console) as board:
        with board.step(f"kubectl delete -f {SCALED_EXAMPLE}"):
            await remove(kubernetes, SCALED_RESOURCE, namespace=NAMESPACE)


def summary(outcome: Outcome) -> str:
    """Say what became of all streams in one line."""
    failed = sum(outcome.kinds.values()) - outcome.lost
    first = outcome.time_to_first_token
    return (
        f"{len(outcome.records)} streams: {outcome.whole} whole, {outcome.lost} cut, {failed} refused or failed; "
        f"first token p99 {duration(first.p99) if first else 'never'}"
    )


async def _play(settings: Settings, kubernetes: Kubernetes, url: str, *, console: Console) -> Run:
    """Send load in three stages, each until the replicas have followed."""
    rate = [CALM]
    arrivals = paced(lambda _: rate[0], prompt_tokens=1, output_tokens=STREAM_TOKENS)
    subject = Subject(settings.kubeconfig, NAMESPACE, SCALED_RESOURCE)
    async with (
        Client(Target(url, SCALED_RESOURCE)) as client,
        watching(subject, seconds=lambda: client.seconds) as samples,
        View(Scene(SCALED_RESOURCE, client.outcome, samples, FEW), console) as view,
        client.sending(arrivals),
    ):
        await asyncio.sleep(LOOK_SECONDS)
        view.scene.phase, rate[0] = RISES, BUSY
        await until(kubernetes, samples, lambda now: now.asked == now.ready == 2, what="two replicas")
        view.scene.phase = SHARED
        await asyncio.sleep(LOOK_SECONDS)
        view.scene.phase, rate[0] = FALLS, CALM
        await until(kubernetes, samples, lambda now: now.asked == now.replicas == 1, what="one replica again")
        await asyncio.sleep(LOOK_SECONDS)
        view.scene.phase = LAST
    return Run(SCALED_RESOURCE, client.seconds, samples, client.outcome)


async def until(kubernetes: Kubernetes, samples: list[Sample], holds: Callable[[Sample], bool], *, what: str) -> None:
    """Wait until the cluster is so.

    Raises:
        DemoError: it was not in time; the message is what the resource says of its autoscaling.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_SECONDS
    while not samples or not holds(samples[-1]):
        if loop.time() > end:
            found = await conditions(kubernetes, SCALED_RESOURCE)
            problem = f" {samples[-1].problem}" if samples else ""
            raise DemoError(
                f"There were not {what} within {elapsed(PATIENCE_SECONDS)}.{problem} "
                f"{SCALED_RESOURCE} says of its autoscaling: {said(found.get('AutoscalingActive'))}\n"
                f"  More: {kubectl(kubernetes)} describe llmdeploy,hpa {SCALED_RESOURCE}"
            )
        await asyncio.sleep(0.5)


@asynccontextmanager
async def _url(settings: Settings, kubernetes: Kubernetes) -> AsyncIterator[str]:
    """Give a base URL by which this machine reaches the example, for as long as the block runs."""
    if not settings.existing_kubeconfig:
        # A route leads to our own cluster: no stream has to pass through kubectl.
        service = await kubernetes.read("service", SCALED_RESOURCE, namespace=NAMESPACE)
        assert service
        yield f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/v1"
        return
    forwarder = Daemon("port-forward", settings.folder / "port-forward-2.json", settings.log("port-forward-2"))
    forwarder.stop()  # of a run that was interrupted
    port = _free_port()
    await forward(forwarder, kubernetes, service=SCALED_RESOURCE, port=port)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        forwarder.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
