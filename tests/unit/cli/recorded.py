"""LLMDeployments as a cluster has them: the core's own statuses, with pods as a kubelet tells them."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console, RenderableType

from sundog_cli.snapshot import Snapshot
from sundog_operator.core.names import Manifest
from tests.unit.core.world import START, World, resource

NOW = START + 100


def time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def snapshot(world: World, **more: tuple[Manifest, ...]) -> Snapshot:
    """What a command would read of it."""
    made = {**world.resource, "metadata": {"creationTimestamp": time(START), **world.resource["metadata"]}}
    of_kind = {
        kind: tuple(manifest for key, manifest in world.children.items() if key.kind == kind)
        for kind in ("Deployment", "Service", "HorizontalPodAutoscaler")
    }
    return Snapshot(
        resource=made,
        pods=tuple(world.pods.values()),
        deployments=of_kind["Deployment"],
        services=of_kind["Service"],
        autoscalers=of_kind["HorizontalPodAutoscaler"],
        **more,
    )


def ready(**spec: object) -> World:
    """A resource with everything it asked for."""
    world = World(resource(**spec))
    world.converge()
    return world


def loading() -> World:
    """Two replicas of three are ready, after 80 s of loading; the third has loaded for 50 s."""
    world = ready(replicas=3)
    for number, pod in enumerate(world.pods.values()):
        up = number < 2
        (status,) = pod["status"]["containerStatuses"]
        began = START if up else NOW - 50
        status |= {"state": {"running": {"startedAt": time(began)}}, "started": up}
        pod["spec"] = {"nodeName": f"node-{number}"}
        pod["status"]["conditions"] = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": str(up), "lastTransitionTime": time(began + 80)},
        ]
    world.now = NOW
    world.step()
    return world


def text(picture: RenderableType) -> str:
    """As it stands in a terminal, without colours."""
    console = Console(width=200, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(picture)
    return captured.get()
