"""One fault from beginning to end: an LLMDeployment, load on it, the fault, and watching until all is whole again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from tests.cluster import ClusterError
from tests.e2e import vllm
from tests.e2e.site import Site
from tests.faults.faults import DISK_CLASS, NAME, REPLICAS, Fault, Scene, small_disk
from tests.faults.report import Result, count, told
from tests.load.arrivals import Arrival, paced, steady
from tests.load.client import Client, Target
from tests.load.outcome import Record

STREAMS = 30
STREAM_TOKENS = 100
TOKENS_PER_SECOND = 5
"""So that a stream takes 20 s, and 30 of them are no load for a machine of two cores."""
REQUESTS_PER_SECOND = 5.0
SHORT_TOKENS = 3
VLLM_REPLICAS = 2
VLLM_STREAMS = 8
PATIENCE_SECONDS = 600
"""Longer than it takes to tell a wedged engine from a slow one: two minutes on a CPU, twenty seconds on a GPU."""
SETTLE_SECONDS = 5.0
"""Under load before the fault and after it is over, so that streams of all ages meet it."""


def spec(fault: Fault) -> dict[str, Any]:
    """What is applied."""
    whole: dict[str, Any] = {"replicas": REPLICAS, "rollout": {"progressDeadlineSeconds": 600}}
    if fault.vllm:
        whole = {**vllm.spec("tiny", requestTimeoutSeconds=PATIENCE_SECONDS), "replicas": VLLM_REPLICAS}
    else:
        whole["engine"] = {"name": "fake", "args": {"tokens-per-second": TOKENS_PER_SECOND}}
    if "ray" in fault.spec:
        ray = fault.spec["ray"]
        return {**whole, "ray": {"head": {**vllm.spec("tiny")["ray"]["head"], **ray["head"]}}}
    return whole


async def run(site: Site, fault: Fault) -> Result:
    """Do it.

    Raises:
        AssertionError: it did not become whole again; what there is instead is said.
    """
    replicas = VLLM_REPLICAS if fault.vllm else REPLICAS
    if fault.vllm:
        vllm.offer(site)
    if DISK_CLASS in str(fault.spec):
        small_disk(site)
    site.apply(NAME, **spec(fault))
    await site.until_ready(NAME, replicas=replicas)
    scene = Scene(site, NAME, replicas)
    target = Target(site.url(NAME), NAME, (lambda _text, _tokens: "") if fault.vllm else Target("", "").check)
    async with (
        Client(target, patience_seconds=PATIENCE_SECONDS) as long,
        Client(target, patience_seconds=PATIENCE_SECONDS) as short,
        _listening(site) as reasons,
        long.until_over() as group,
        short.sending(paced(steady(REQUESTS_PER_SECOND), prompt_tokens=1, output_tokens=SHORT_TOKENS)),
    ):
        for number in range(VLLM_STREAMS if fault.vllm else STREAMS):
            group.create_task(_one_after_the_other(long, delay=number * 0.3))
        await asyncio.sleep(SETTLE_SECONDS + 0.3 * STREAMS)
        began = time.monotonic()
        await fault.inject(scene)
        if time.monotonic() - began > 20:  # it lasted; what counts is the time after it
            began = time.monotonic()
        await site.until(f"a trace of: {fault.title}", lambda: fault.changed(scene))
        await site.until(f"whole after: {fault.title}", scene.is_whole)
        seconds = time.monotonic() - began
        await asyncio.sleep(SETTLE_SECONDS)
    records: list[Record] = [*long.outcome.records, *short.outcome.records]
    failed, cut, unnoticed, details = count(records)
    return Result(
        name=fault.name,
        title=fault.title,
        streams=len(long.outcome.records),
        requests=len(short.outcome.records),
        failed=failed,
        cut=cut,
        unnoticed=unnoticed,
        on_victim=scene.on_victim,
        seconds=seconds,
        said=told(reasons),
        details=details,
    )


async def _one_after_the_other(client: Client, *, delay: float) -> None:
    await asyncio.sleep(delay)
    while not client.over.is_set():
        await client.send(Arrival(client.seconds, prompt_tokens=1, output_tokens=STREAM_TOKENS))


@contextlib.asynccontextmanager
async def _listening(site: Site) -> AsyncIterator[list[str]]:
    """Hear the reasons of Ready, in order, for as long as the block runs."""
    heard: list[str] = []

    async def listen() -> None:
        while True:
            try:
                heard.append(str((await asyncio.to_thread(site.condition, NAME)).get("reason", "")))
            except ClusterError:
                heard.append("(no API server)")
            await asyncio.sleep(1)

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def clear(site: Site) -> None:
    """Take the LLMDeployment away."""
    site.kubectl("delete", "llmdeployment", NAME, "--ignore-not-found")
    await site.until("its pods gone", lambda: not site.list("pods", f"sundog.dev/llmdeployment={NAME}"))
