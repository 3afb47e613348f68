"""vLLM as a replica of a real Ray cluster: what only the two together can get wrong."""

import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.models import environment, model
from tests.serving.conftest import HEADERS, application_args, events, eventually
from tests.serving.ray_cluster import RECORDED_METRICS, Deployed, RayCluster, command_of, descendants_of, engine_series
from tests.serving.test_vllm import ON_CPU, SMALL

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]

LOAD_SECONDS = 300  # 20 on a quiet machine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[RayCluster]:
    async with RayCluster.running(python=str(environment() / "bin" / "python"), **ON_CPU) as running:
        yield running


def processes(cluster: RayCluster, title: str) -> list[int]:
    return [
        pid for process in cluster.processes for pid in descendants_of(process.pid) if command_of(pid).startswith(title)
    ]


async def deploy(cluster: RayCluster) -> None:
    args = application_args("vllm", SMALL, path=str(model("tiny")))
    await cluster.deploy({**args, "attempt": os.urandom(4).hex()}, drain_seconds=600)


async def running(cluster: RayCluster) -> Deployed:
    if not (await cluster.deployed()).replicas("RUNNING"):
        await deploy(cluster)
    return await eventually(cluster.deployed, lambda now: bool(now.replicas("RUNNING")), within_seconds=LOAD_SECONDS)


async def answers(cluster: RayCluster) -> bool:
    body = {"model": "tiny", "prompt": "hello", "stream": True, "max_tokens": 20, "ignore_eos": True}
    async with cluster.client.post(f"{cluster.replica}/v1/completions", json=body, headers=HEADERS) as response:
        return response.status == 200 and (await events(response))[-1] == "[DONE]"


async def test_vllms_metrics_come_out_of_the_nodes_port_and_out_of_its_own_route(cluster: RayCluster) -> None:
    await running(cluster)
    assert await answers(cluster)
    wanted = engine_series(RECORDED_METRICS.read_text())
    await eventually(cluster.metrics, lambda text: wanted <= engine_series(text))
    async with cluster.client.get(f"{cluster.replica}/metrics", headers=HEADERS) as response:
        assert "vllm:time_to_first_token_seconds_bucket" in await response.text()


async def test_a_replica_survives_a_new_serve_controller(cluster: RayCluster) -> None:
    """A controller that comes back asks each replica for its log file, and stops those that have lost it to vLLM."""
    before = (await running(cluster)).replicas("RUNNING")
    (controller,) = processes(cluster, "ray::ServeController")
    os.kill(controller, signal.SIGKILL)
    await eventually(
        lambda: _controllers(cluster), lambda found: bool(found) and found != [controller], within_seconds=60
    )
    await eventually(
        cluster.deployed, lambda now: now.status == "RUNNING" and bool(now.replicas("RUNNING")), within_seconds=120
    )
    for _ in range(10):
        after = (await cluster.deployed()).replicas("RUNNING")
        assert [(replica["replica_id"], replica["pid"]) for replica in after] == [
            (replica["replica_id"], replica["pid"]) for replica in before
        ]
        assert await answers(cluster)


async def _controllers(cluster: RayCluster) -> list[int]:
    return processes(cluster, "ray::ServeController")


async def test_an_engine_that_died_is_out_of_rotation_and_replaced(cluster: RayCluster) -> None:
    (old,) = (await running(cluster)).replicas("RUNNING")
    (core,) = processes(cluster, "VLLM::EngineCore")
    os.kill(core, signal.SIGKILL)
    await eventually(cluster.health, lambda status: status != 200, within_seconds=5)
    new = await eventually(
        cluster.deployed,
        lambda now: [replica["replica_id"] for replica in now.replicas("RUNNING")] not in ([], [old["replica_id"]]),
        within_seconds=LOAD_SECONDS,
    )
    assert new.status == "RUNNING"
    assert await answers(cluster)


async def test_a_replica_that_must_stop_while_it_loads_stops_and_leaves_no_process(cluster: RayCluster) -> None:
    if (await cluster.deployed()).engine.get("replicas"):
        await cluster.scale(0)
        await eventually(cluster.deployed, lambda now: now.engine["replicas"] == [])
    await deploy(cluster)

    async def cores() -> list[int]:
        return processes(cluster, "VLLM::")

    await eventually(cores, bool, within_seconds=LOAD_SECONDS)
    assert not (await cluster.deployed()).replicas("RUNNING")
    await cluster.scale(0)
    # Not the 600 seconds that a drain may take: there is nothing to drain.
    await eventually(cluster.deployed, lambda now: now.engine["replicas"] == [], within_seconds=60)
    await eventually(cores, lambda found: found == [], within_seconds=30)
