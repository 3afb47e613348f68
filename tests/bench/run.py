"""All measurements of one number of LLMDeployments, in a namespace and with an operator of their own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sundog_operator.kube.resources import BY_KIND
from tests.apiserver.operator.played import Heads, Kubelet, Loads
from tests.apiserver.operator.world import Api as PlainApi
from tests.bench.api import Api, Manifest
from tests.bench.changes import CROWD, Changer, Changes, Crowded
from tests.bench.creation import Creation, measure_creation
from tests.bench.machine import Others
from tests.bench.metrics_api import PERIODS, MetricsApi, measure_metrics_api
from tests.bench.operator_process import Operator, Settings, free_port
from tests.bench.rest import COMPARED_SECONDS, Idle, Restart, measure_idle, measure_restart
from tests.bench.testbed import OPERATOR_NAMESPACE, Testbed, offer_volumes
from tests.bench.world import World
from tests.cluster.progress import Progress

CROWDED_SAMPLES = 50
METRICS_SERVICE = "sundog-operator"
"""In front of the custom metrics API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    sizes: tuple[int, ...]
    samples: int
    idle_seconds: float
    metrics_api: int
    """LLMDeployments whose load the metrics API is asked for; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was measured with so many LLMDeployments."""

    size: int
    creation: Creation
    changes: Changes
    other_processors: float
    """That other programs used while changes were timed."""
    idle: Idle
    peak_mebibytes: float
    """Resident, of the operator, through creation, changes and rest."""
    restart: Restart
    crowded: Crowded | None
    """Only with the largest number, and more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All of one control plane."""

    runs: Sequence[Run]
    metrics_api: MetricsApi | None


async def measure(bed: Testbed, asked: Asked, *, progress: Progress) -> Measured:
    """Measure with each number of LLMDeployments, and the metrics API with its own."""
    async with Api(bed.cluster.kubeconfig) as api:
        runs = [await _measure_size(bed, api, size, asked=asked, progress=progress) for size in asked.sizes]
        metrics_api = await _measure_metrics_api(bed, api, asked, progress) if asked.metrics_api else None
        return Measured(runs=runs, metrics_api=metrics_api)


async def _measure_size(bed: Testbed, api: Api, size: int, *, asked: Asked, progress: Progress) -> Run:
    namespace = f"bench-{size}"
    bed.cluster.kubectl("create", "namespace", namespace)
    largest = size == max(asked.sizes)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(api, namespace))
        heads = await stack.enter_async_context(_heads(bed, world))
        settings = Settings(bed.operator_kubeconfig, OPERATOR_NAMESPACE, heads.template, bed.log)
        operator = Operator(settings)
        stack.push_async_callback(lambda: operator.stop())  # noqa: PLW0108 the one that runs at the end
        with progress.task(f"{size}: starting the operator"):
            await offer_volumes(api, size)
            await operator.until_leading()
            started = time.monotonic()
        with progress.task(f"{size}: creating"):
            creation = await measure_creation(api, operator, world, size=size)
        with progress.task(f"{size}: changing") as task:
            others = Others([os.getpid(), operator.process, *bed.processes])
            task.update(total=2 * asked.samples)
            changer = Changer(api, world)
            changes = await changer.measure(asked.samples, told=lambda done: task.update(done=done))
            other_processors = others.processors()
        with progress.task(f"{size}: resting"):
            await asyncio.sleep(max(0.0, started + COMPARED_SECONDS - time.monotonic()))
            await world.until_at_rest(size, seconds=60)
            idle = await measure_idle(api, operator, heads, size=size, seconds=asked.idle_seconds)
            _, peak = operator.memory_mebibytes()
        with progress.task(f"{size}: killing the operator and starting it anew"):
            restart, operator = await measure_restart(api, operator, world, settings=settings, size=size)
        crowded = None
        if largest and size > 1:
            with progress.task(f"{size}: changing while one comes to {CROWD} replicas") as task:
                crowded = await changer.measure_crowded(
                    min(CROWDED_SAMPLES, asked.samples), told=lambda done: task.update(done=done)
                )
    if not largest:
        with progress.task(f"{size}: deleting"):
            await asyncio.to_thread(bed.cluster.kubectl, "delete", "namespace", namespace, "--timeout=300s")
    return Run(
        size=size,
        creation=creation,
        changes=changes,
        other_processors=other_processors,
        idle=idle,
        peak_mebibytes=peak,
        restart=restart,
        crowded=crowded,
    )


async def _measure_metrics_api(bed: Testbed, api: Api, asked: Asked, progress: Progress) -> MetricsApi:
    size = asked.metrics_api
    namespace, port = f"bench-metrics-{size}", free_port()
    bed.cluster.kubectl("create", "namespace", namespace)
    await api.create(BY_KIND["Service"], _service(port))
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(api, namespace))
        heads = await stack.enter_async_context(_heads(bed, world))
        loads = await stack.enter_async_context(Loads())
        more = {
            "SUNDOG_WATCH_NAMESPACES": namespace,  # the largest number's are still there
            "SUNDOG_POD_URL_TEMPLATE": loads.template,
            "SUNDOG_CUSTOM_METRICS_SERVICE": METRICS_SERVICE,
            "SUNDOG_CUSTOM_METRICS_SERVICE_PORT": str(port),
            "SUNDOG_CUSTOM_METRICS_PORT": str(port),
        }
        operator = Operator(Settings(bed.operator_kubeconfig, OPERATOR_NAMESPACE, heads.template, bed.log, more))
        stack.push_async_callback(operator.stop)
        with progress.task(f"{size}: creating, for the metrics API"):
            await offer_volumes(api, size)
            await operator.until_leading()
            await measure_creation(api, operator, world, size=size)
        periods = min(PERIODS, asked.samples)
        return await measure_metrics_api(
            api, operator, loads, world, periods=periods, own=bed.processes, progress=progress
        )


def _service(port: int) -> Manifest:
    """Describe where the API server finds the operator, which is a process beside it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": METRICS_SERVICE, "namespace": OPERATOR_NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }


def _heads(bed: Testbed, world: World) -> Heads:
    """Play the Ray heads: KWOK makes the pods run, so its kubelet is not started, only told of the workers."""
    kubelet = Kubelet(PlainApi(bed.cluster.kubeconfig, world.namespace))
    kubelet.revisions = world.workers
    return Heads(kubelet)
