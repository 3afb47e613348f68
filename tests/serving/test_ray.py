"""A replica inside a real Ray cluster: what the operator, the router and the clients rely on."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sundog_serving.contract import GIVEN_BACK
from tests.serving.conftest import HEADERS, application_args, events, eventually, until
from tests.serving.ray_cluster import RECORDED_METRICS, Deployed, RayCluster, command_of, descendants_of, engine_series

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module")]

RECORDED = Path(__file__).parent / "recorded"
WEDGED_AFTER = 4  # seconds without a step


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[RayCluster]:
    times = {"SUNDOG_STALL_SECONDS": str(WEDGED_AFTER), "SUNDOG_READINESS_SECONDS": "4"}
    async with RayCluster.running(**times) as running:
        yield running


def stream(cluster: RayCluster, url: str, tokens: int) -> "asyncio.Task[list[Any]]":
    async def read() -> list[Any]:
        body = {"model": "tiny", "prompt": "hello", "stream": True, "max_tokens": tokens}
        async with cluster.client.post(f"{url}/v1/completions", json=body, headers=HEADERS) as response:
            assert response.status == 200, await response.text()
            return await events(response)

    return asyncio.create_task(read())


def assert_whole(received: list[Any], tokens: int) -> None:
    assert received[-1] == "[DONE]"
    text = "".join(chunk["choices"][0]["text"] for chunk in received[:-1])
    assert text == " ".join(f"tok{number}" for number in range(tokens))


async def load_of(cluster: RayCluster) -> dict[str, Any]:
    async with cluster.client.get(f"{cluster.replica}/sundog/load", headers=HEADERS) as response:
        document: dict[str, Any] = await response.json()
        return document


async def test_a_replica_answers_on_its_own_port_and_through_the_head(cluster: RayCluster) -> None:
    await cluster.deploy_fake(tokens_per_second=200)
    for url in (cluster.replica, cluster.proxy):
        assert_whole(await stream(cluster, url, 20), 20)
        async with cluster.client.get(f"{url}/v1/models") as response:
            assert response.status == 403
    async with cluster.client.get(f"{cluster.replica}/sundog/engine", headers=HEADERS) as response:
        engine = await response.json()
    assert engine == {
        "engine": "fake",
        "version": "1",
        "device": "cpu",
        "model": "tiny",
        "tasks": ["generate"],
        "ray_version": "2.60.0",
    }


async def test_a_draining_replica_finishes_its_streams_and_keeps_its_port_open(cluster: RayCluster) -> None:
    """The router takes 503 as leave, and a liveness probe takes an open port as life."""
    await cluster.deploy_fake(tokens_per_second=20)
    streams = [stream(cluster, cluster.replica, 160) for _ in range(5)]
    await eventually(lambda: load_of(cluster), lambda load: load["running"] == 5)
    await cluster.scale(0)
    seen = []
    while not all(task.done() for task in streams):
        seen.append(await cluster.health())
        await asyncio.sleep(0.2)
    for task in streams:
        assert_whole(await task, 160)
    assert set(seen) <= {200, 503}, seen
    assert seen[-5:] == [503] * 5  # and was for as long as there were streams
    await eventually(cluster.deployed, _without_replicas, within_seconds=15)
    assert await cluster.health() is None


async def test_the_head_holds_requests_at_zero_until_a_replica_is_there(cluster: RayCluster) -> None:
    await cluster.deploy_fake(tokens_per_second=200)
    await cluster.scale(0)
    await eventually(cluster.deployed, _without_replicas)
    held = [stream(cluster, cluster.proxy, 5) for _ in range(4)]
    await asyncio.sleep(3)
    assert not any(task.done() for task in held)
    await cluster.scale(1)
    for received in await asyncio.wait_for(asyncio.gather(*held), 60):
        assert_whole(received, 5)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_that_leaves_frees_its_slot_within_a_second(cluster: RayCluster, streaming: bool) -> None:  # noqa: FBT001
    await cluster.deploy_fake(tokens_per_second=10)
    body = {"model": "tiny", "prompt": "hello", "stream": streaming, "max_tokens": 1000}
    with pytest.raises(TimeoutError):
        async with (
            asyncio.timeout(1),
            cluster.client.post(f"{cluster.replica}/v1/completions", json=body, headers=HEADERS) as response,
        ):
            await response.read()
    # One second is the promise; the rest is for a busy machine.
    await eventually(lambda: load_of(cluster), lambda load: load["running"] == 0, within_seconds=1.5)


async def test_a_failed_start_is_told_in_the_message_and_three_are_enough(cluster: RayCluster) -> None:
    await cluster.delete()
    await cluster.deploy({**_args("start"), "attempt": time.time()})
    first = await eventually(cluster.deployed, lambda now: "EngineStartError" in now.message)
    assert first.status == "DEPLOYING"
    assert "Retrying 2 more time(s)" in first.message
    now = await eventually(cluster.deployed, _given_up, within_seconds=120)
    for message in (first.message, now.message):
        assert message.strip().splitlines()[-1] == (
            "sundog_serving.errors.EngineStartError: EngineStartFailed: "
            "the fake engine was told to fail; take failure out of spec.engine.args"
        )
    assert now.engine["replicas"] == []


async def test_after_three_failures_only_other_arguments_try_again(cluster: RayCluster) -> None:
    args = {**_args("start"), "attempt": time.time()}
    await cluster.delete()
    await cluster.deploy(args)
    failed = await eventually(cluster.deployed, _given_up, within_seconds=120)
    await cluster.deploy(args)
    await asyncio.sleep(5)  # nothing is to happen
    again = await cluster.deployed()
    assert again.status == "DEPLOY_FAILED"
    assert again.engine["recent_dead_replicas"] == failed.engine["recent_dead_replicas"]
    await cluster.deploy_fake()


async def test_an_engine_without_tokens_never_becomes_ready(cluster: RayCluster) -> None:
    await cluster.delete()
    await cluster.deploy({**_args("no-tokens"), "attempt": time.time()})
    now = await eventually(cluster.deployed, lambda now: "EngineStartError" in now.message)
    assert await cluster.health() is None
    assert "gave no answer to its first request (/v1/completions) within 4 s" in now.message


async def test_a_replica_hears_that_it_must_stop_while_its_engine_loads(cluster: RayCluster) -> None:
    await cluster.deploy({**_args(None, **{"start-delay-seconds": 3000}), "attempt": time.time()}, drain_seconds=600)
    await eventually(cluster.deployed, lambda now: any("pid" in replica for replica in now.replicas("STARTING")))
    began = time.monotonic()
    await cluster.deploy_fake()
    assert time.monotonic() - began < 60  # not the 600 seconds that a drain may take


async def test_a_wedged_engine_leaves_rotation_and_is_replaced(cluster: RayCluster) -> None:
    before = await cluster.deploy_fake(failure="wedge-after:2", start_delay_seconds=2)
    (old,) = (replica["replica_id"] for replica in before.replicas("RUNNING"))
    stuck = stream(cluster, cluster.replica, 5000)
    await _until_replaced(cluster, old, within_seconds=WEDGED_AFTER + 30)
    with pytest.raises(aiohttp.ClientError):
        await stuck


async def test_a_crashed_engine_leaves_rotation_within_seconds_and_is_replaced(cluster: RayCluster) -> None:
    before = await cluster.deploy_fake(failure="crash-after:3", start_delay_seconds=2)
    (old,) = (replica["replica_id"] for replica in before.replicas("RUNNING"))

    async def answer() -> int:
        return (await cluster.post(f"{cluster.replica}/v1/completions", prompt="a", max_tokens=1))[0]

    await eventually(answer, lambda status: status == GIVEN_BACK)
    crashed = time.monotonic()
    await eventually(cluster.health, lambda status: status != 200)
    assert time.monotonic() - crashed < 5
    await _until_replaced(cluster, old, within_seconds=40)


async def test_a_killed_replica_is_replaced_on_the_same_port(cluster: RayCluster) -> None:
    before = await cluster.deploy_fake(start_delay_seconds=2)
    (old,) = before.replicas("RUNNING")
    os.kill(old["pid"], signal.SIGKILL)
    await _until_replaced(cluster, old["replica_id"], within_seconds=60)
    await cluster.until_running(1)
    assert (await cluster.post(f"{cluster.replica}/v1/completions", prompt="a", max_tokens=1))[0] == 200


async def test_the_replicas_log_reaches_the_containers_log_without_prompts(cluster: RayCluster) -> None:
    await cluster.deploy_fake()
    await cluster.post(f"{cluster.replica}/v1/completions", prompt="canary-81b2", max_tokens=1)
    await until(lambda: "route=/v1/completions status=200" in cluster.log("worker"))
    assert "the engine is ready" in cluster.log("worker")
    for log in cluster.folder.rglob("*"):
        if log.is_file() and log.suffix in {".log", ".out", ".err"}:
            text = log.read_text(errors="replace")
            assert "canary-81b2" not in text, log
            assert HEADERS["x-sundog-replica-token"] not in text, log


async def test_the_engines_metrics_come_out_of_the_nodes_port_and_need_no_token(cluster: RayCluster) -> None:
    await cluster.deploy_fake(tokens_per_second=200)
    assert_whole(await stream(cluster, cluster.replica, 5), 5)
    wanted = engine_series(RECORDED_METRICS.read_text())
    await eventually(cluster.metrics, lambda text: wanted <= engine_series(text))
    async with cluster.client.get(f"{cluster.replica}/metrics") as response:
        assert response.status == 403


async def test_the_head_runs_nothing_that_sundog_does_not_use(cluster: RayCluster) -> None:
    commands = [command_of(pid) for pid in descendants_of(cluster.processes[0].pid)]
    modules = {found[1] for command in commands if (found := re.match(r"ray-dashboard-(\w+)-\d", command))}
    assert modules == {"ServeHead"}
    assert not [command for command in commands if "ray.util.client.server" in command or "monitor.py" in command]
    ray = {"authorization": "Bearer 0123456789abcdef0123456789abcdef"}
    for route in ("/api/jobs/", "/api/actors", "/nodes?view=summary", "/api/v0/tasks"):
        async with cluster.client.get(f"{cluster.dashboard}{route}", headers=ray) as response:
            assert response.status == 404, route


async def test_a_worker_begins_before_its_agents_have_loaded() -> None:
    async with RayCluster.running() as cluster:
        logs = cluster.folder / "ray" / "session_latest" / "logs"  # the head's and the worker's, these with a .1

        def began(log: str, told: str) -> str | None:
            text = (logs / log).read_text() if (logs / log).exists() else ""
            found = re.search(rf"^\[?(\S+ [0-9:,]+)[ \t].*{told}", text, re.MULTILINE)
            return found and found[1]

        async def agents() -> list[str | None]:
            return [
                began("dashboard_agent.1.log", "agent grpc address"),
                began("runtime_env_agent.1.log", "Listening to"),
            ]

        listening = await eventually(agents, all)
        node = began("raylet.1.out", "Raylet of id")
        assert node == min(node, *listening)


async def test_a_node_loads_no_command_but_its_own() -> None:
    script = (
        "import sys\n"
        "from sundog_serving import ray_node\n"
        "sys.argv[1:] = ['start', '--help']\n"
        "try:\n"
        "    ray_node.main()\n"
        "finally:\n"
        "    print(sorted({'ray.scripts.scripts', 'ray.serve', 'ray.util.state'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert "--address" in done.stdout
    assert done.stdout.splitlines()[-1] == "['ray.scripts.scripts']"


async def test_a_worker_that_is_told_to_end_waits_for_its_requests_and_not_for_its_head() -> None:
    times = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "600", "RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
    async with RayCluster.running(**times) as cluster:
        head, worker = cluster.processes
        await cluster.deploy_fake(tokens_per_second=10)
        reading = stream(cluster, cluster.replica, 200)
        await eventually(lambda: load_of(cluster), lambda load: load["running"] == 1)
        for process in (*descendants_of(head.pid), head.pid):
            os.kill(process, signal.SIGKILL)  # as when the LLMDeployment is deleted: both go at the same time
        worker.terminate()
        assert_whole(await reading, 200)
        assert worker.poll() is None
        await until(lambda: worker.poll() is not None, within_seconds=120)  # not the 600 that a drain may take


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
async def test_the_heads_api_demands_the_token(cluster: RayCluster, headers: dict[str, str]) -> None:
    async with cluster.client.get(f"{cluster.dashboard}/api/serve/applications/", headers=headers) as response:
        assert response.status in {401, 403}


async def test_the_recorded_answers_still_have_the_shape_of_rays(cluster: RayCluster) -> None:
    """The operator's tests are made from the recordings: Ray must still answer like that."""
    await cluster.deploy_fake()
    now = (await cluster.deployed()).document
    recorded = json.loads((RECORDED / "running.json").read_text())
    assert _shape(now["applications"]["llm"]["deployments"]["engine"]["replicas"][0]) == _shape(
        recorded["applications"]["llm"]["deployments"]["engine"]["replicas"][0]
    )
    for path in ((), ("applications", "llm"), ("applications", "llm", "deployments", "engine")):
        mine, theirs = now, recorded
        for part in path:
            mine, theirs = mine[part], theirs[part]
        assert set(mine) == set(theirs)


def _shape(document: dict[str, Any]) -> dict[str, str]:
    return {name: type(value).__name__ for name, value in document.items()}


def _args(failure: str | None, **engine_args: Any) -> dict[str, Any]:
    return application_args("fake", {**engine_args, **({"failure": failure} if failure else {})})


def _given_up(now: Deployed) -> bool:
    return now.status == "DEPLOY_FAILED" and now.engine["replicas"] == []


def _without_replicas(now: Deployed) -> bool:
    return now.engine["replicas"] == []


async def _until_replaced(cluster: RayCluster, replica_id: str, *, within_seconds: float) -> None:
    def gone(now: Deployed) -> bool:
        return replica_id not in {replica["replica_id"] for replica in now.engine["replicas"]}

    await eventually(cluster.deployed, gone, within_seconds=within_seconds)
