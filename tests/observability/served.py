"""Everything that Sundog tells Prometheus, on ports of this machine: the operator's own server, and recordings.

The recordings are of a real HAProxy with Sundog's configuration and of a Ray worker with a real vLLM; their counters go
on counting, since rates of what stands still tell nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import unused_port

from sundog_operator.core.load import Load, ReplicaLoad
from sundog_operator.core.observed import RouterLoad
from sundog_operator.core.telemetry import Telemetry, telemetry
from sundog_operator.http_server import HTTPServer
from sundog_operator.kube.store import ResourceKey, Store
from sundog_operator.metrics import Metrics
from tests.unit.core.world import World, resource

RECORDED = Path(__file__).parent / "recorded"
NAMESPACE = "team"
NAME = "qwen3"
_SAMPLE = re.compile(r"^(?P<series>[a-zA-Z_:][^ ]*(?:\{.*\})?) (?P<value>\S+)$")


def told_of(world: World) -> Telemetry:
    """What the operator tells of a world's LLMDeployment."""
    return telemetry(world.resource, world.children)


def counting(text: str, factor: float) -> str:
    """Let what a recording counts go on, all by the same factor, so that it still fits together."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    lines = []
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None:
            lines.append(line)
            continue
        name = sample["series"].partition("{")[0]
        family = name if name in kinds else re.sub(r"_(bucket|count|sum)$", "", name)
        value = float(sample["value"]) * (factor if kinds.get(family) in {"counter", "histogram"} else 1)
        lines.append(f"{sample['series']} {value}")
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def recordings() -> AsyncIterator[Mapping[str, int]]:
    """Serve each recording at a port; by name."""
    began = time.monotonic()
    texts = {path.stem: path.read_text() for path in RECORDED.glob("*.prom")}

    def telling(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def metrics(_: web.Request) -> web.Response:
            return web.Response(text=counting(text, 1 + time.monotonic() - began))

        return metrics

    runners, ports = [], {}
    for name, text in texts.items():
        app = web.Application()
        app.router.add_get("/metrics", telling(text))
        runner = web.AppRunner(app)
        await runner.setup()
        ports[name] = unused_port()
        await web.TCPSite(runner, "127.0.0.1", ports[name]).start()
        runners.append(runner)
    try:
        yield ports
    finally:
        for runner in runners:
            await runner.cleanup()


@asynccontextmanager
async def operator() -> AsyncIterator[int]:
    """Serve what an operator tells that leads and has one LLMDeployment with all that can be told; its port."""
    autoscaling = {"maxReplicas": 4}
    slo = {"timeToFirstTokenMilliseconds": 400, "interTokenMilliseconds": 50, "percent": 99}
    world = World(resource(NAME, replicas=2, autoscaling=autoscaling, slo=slo), custom_metrics_trouble="none answers")
    world.converge()
    world.step()
    metrics = Metrics()
    metrics.watch_leading(lambda: 10.0)
    metrics.tell_lease(lambda: 7)
    metrics.tell_resources(lambda: [told_of(world)])
    for seconds in (0.01, 0.2):
        metrics.pass_done("changed", seconds)
        metrics.api_request("patch", "Deployment", "200")
    router = RouterLoad(ongoing=6, waiting=2, idle_seconds=0, servers=2)
    load = Load({"router-1": router}, {"replica-1": ReplicaLoad(0.4, 120.0)})

    async def measure(key: ResourceKey) -> Load:
        metrics.pass_done("unchanged", 0.001)  # so that its counters move as well
        assert key == (NAMESPACE, NAME)
        return load

    server = HTTPServer(metrics, Store(), page_is_public=False, ill=lambda: None, unready=lambda: None)
    server.measure(measure, lambda: [ResourceKey(NAMESPACE, NAME)])
    port = unused_port()
    runner = await server.start(port)
    try:
        yield port
    finally:
        await runner.cleanup()
