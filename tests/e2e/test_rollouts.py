"""A change loses no request, and one that cannot serve is taken back: with real pods.

The first test is the short form that `make test` runs; those at the full length of the promises are marked `endurance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e import vllm
from tests.e2e.site import TOKENS_PER_SECOND, Manifest, Site
from tests.load.arrivals import Arrival
from tests.load.client import Client, Target, requests, streams
from tests.load.outcome import Fault

SLOW = 5
"""Tokens per second of a stream, so that 200 of them are no load for a machine of two cores."""
QUICK = {"progressDeadlineSeconds": 90}
SEES_WITHIN = 4
"""Samples, about one a second."""


def fake(*, rate: int = TOKENS_PER_SECOND, **args: Any) -> Manifest:
    return {"name": "fake", "args": {"tokens-per-second": rate, **args}}


@dataclass
class Counts:
    """What was sampled of an LLMDeployment's worker pods."""

    pods: list[int] = field(default_factory=list)
    """All there were, those that end included: each holds a GPU."""
    servers: list[int] = field(default_factory=list)
    """Replicas that the routers send requests to, by their own look at each every second."""

    @property
    def least(self) -> int:
        """Fewest servers, but for a moment: a router finds a new replica up to 4 s after the kubelet has."""
        return min(max(self.servers[at : at + SEES_WITHIN]) for at in range(max(1, len(self.servers) - SEES_WITHIN)))


@contextlib.asynccontextmanager
async def sampled(site: Site, name: str) -> AsyncIterator[Counts]:
    """Count pods about once a second."""
    counts, over = Counts(), asyncio.Event()
    selector = f"sundog.dev/llmdeployment={name},sundog.dev/component=worker"

    async def sample() -> None:
        while not over.is_set():
            pods = [pod for pod in await asyncio.to_thread(site.list, "pods", selector) if not has_ended(pod)]
            counts.pods.append(len(pods))
            if (found := await asyncio.to_thread(site.servers, name)) is not None:
                counts.servers.append(found)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 1)

    task = asyncio.create_task(sample())
    try:
        yield counts
    finally:
        over.set()
        await task


def has_ended(pod: Manifest) -> bool:
    """Whether nothing of it runs any more: it holds no GPU."""
    return pod["status"].get("phase") in {"Succeeded", "Failed"}


def story(told: list[Manifest]) -> list[tuple[str, str]]:
    """Reason and message of Ready, as `kubectl get --watch -o wide` shows them, without what is said twice in a row."""
    lines: list[tuple[str, str]] = []
    for each in told:
        conditions = each.get("status", {}).get("conditions", [])
        ready = next((c for c in conditions if c["type"] == "Ready"), None)
        if ready and (not lines or lines[-1] != (ready["reason"], ready["message"])):
            lines.append((ready["reason"], ready["message"]))
    return lines


def without_versions(manifest: Manifest) -> str:
    drop = {"resourceVersion", "managedFields"}
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in drop}
    return json.dumps({**manifest, "metadata": metadata}, sort_keys=True)


async def test_a_change_and_a_broken_change_lose_nothing_and_read_as_a_story(site: Site) -> None:
    """At 2 replicas, with one pod more; then a good change goes through."""
    rollout = {"rollout": QUICK, "replicas": 2}
    site.apply("rolled", engine=fake(), **rollout)
    await site.until_ready("rolled", replicas=2)
    url = site.url("rolled")
    before = site.uids("rolled")
    async with (
        site.watch("rolled") as told,
        sampled(site, "rolled") as counts,
        streams(url, model="rolled", count=20, seconds=15, rate=TOKENS_PER_SECOND) as long,
        requests(url, model="rolled", per_second=5) as short,
    ):
        site.apply("rolled", engine=fake(**{"max-concurrent": 100}), **rollout)
        await site.until_ready("rolled", replicas=2)
        changed = len(told)
        good = site.uids("rolled")
        assert not before & good
        revisions = site.get("llmdeployment", "rolled")["status"]["revisions"]
        assert [each["state"] for each in revisions] == ["Serving", "Kept"]  # of the old one its name is left
        site.apply("rolled", engine=fake(**{"max-concurrency": 100}), **rollout)
        message = await site.until_reason("rolled", "RolledBack")
        await site.until("no pod of the broken revision", lambda: len(site.pods("rolled", "worker")) == 2)
    lines = story(told)
    print(f"\nchange, then a broken one: streams {long}; requests {short}; at most {max(counts.pods)} pods, at least")
    print(f"{counts.least} served; {len(told)} versions; told:")
    print("\n".join(f"  {reason:18} {words}" for reason, words in lines))
    assert not long.faults
    assert not short.faults
    assert max(counts.pods) <= 3
    assert counts.least >= 2
    assert good == site.uids("rolled")
    assert "EngineArgumentInvalid" in message
    assert "max-concurrency" in message
    assert site.condition("rolled", "Stalled")["reason"] == "RolledBack"
    assert site.condition("rolled", "Available")["status"] == "True"
    states = {each["state"] for each in site.get("llmdeployment", "rolled")["status"]["revisions"]}
    assert states == {"Withdrawn", "Serving", "Kept"}
    # One line a step, none of them twice, and no write without a change.
    reasons = [reason for reason, _ in story(told[:changed])]
    assert [r for i, r in enumerate(reasons) if i == 0 or r != reasons[i - 1]] == [
        "AllReplicasReady",
        "RollingOut",
        "AllReplicasReady",
    ]
    assert len(set(lines)) == len(lines) - 1, "only AllReplicasReady comes twice"
    texts = [without_versions(each) for each in told]
    assert all(one != other for one, other in itertools.pairwise(texts))
    site.apply("rolled", engine=fake(**{"max-concurrent": 50}), **rollout)
    await site.until_ready("rolled", replicas=2)


CHANGES: dict[str, Manifest] = {
    "arguments": {"engine": fake(rate=SLOW, **{"max-concurrent": 200})},
    "image": {"engine": {**fake(rate=SLOW), "image": "SERVING_IMAGE"}},
    "model": {"engine": fake(rate=SLOW), "model": {"uri": "hf://acme/other", "name": "rolled"}},
}


@pytest.mark.endurance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1)])
async def test_200_streams_survive_changes_of_arguments_image_and_model(
    site: Site, surge: int, unavailable: int
) -> None:
    spec = {"replicas": 3, "rollout": {"maxSurge": surge, "maxUnavailable": unavailable}}
    site.apply("rolled", engine=fake(rate=SLOW), **spec)
    await site.until_ready("rolled", replicas=3)
    url = site.url("rolled")
    image = site.pods("rolled", "worker")[0]["spec"]["containers"][0]["image"]
    for what, change in CHANGES.items():
        asked = json.loads(json.dumps(change).replace("SERVING_IMAGE", image))
        before = site.uids("rolled")
        async with (
            sampled(site, "rolled") as counts,
            streams(url, model="rolled", count=200, seconds=60, rate=SLOW) as long,
            requests(url, model="rolled", per_second=20) as short,
        ):
            site.apply("rolled", **asked, **spec)
            await site.until_ready("rolled", replicas=3)
            assert not before & site.uids("rolled"), "each replica is another"
        print(f"\nchange of {what}, surge {surge}: streams {long}; requests {short}; at most {max(counts.pods)} pods, ")
        print(f"at least {counts.least} served")
        assert not long.faults
        assert not short.faults
        assert max(counts.pods) <= 3 + surge
        assert counts.least >= 3 - unavailable


READINESS = [{"name": "SUNDOG_READINESS_SECONDS", "value": "15"}]
BROKEN: dict[str, tuple[Manifest, str]] = {
    "a bad image": ({"engine": {**fake(), "image": "nowhere.invalid/serving:none"}}, "nowhere.invalid/serving:none"),
    "an unknown argument": ({"engine": fake(**{"max-concurrency": 1})}, "max-concurrency"),
    "a missing model": ({"model": {"uri": "pvc://nothing/here", "name": "rolled"}}, '"nothing" does not exist'),
    "an engine that dies after 10 s": ({"engine": fake(failure="exit-after:10")}, "was restarted 2 times"),
    "health without tokens": (
        {"engine": {**fake(failure="no-tokens"), "env": READINESS}},
        "gave no answer to its first request",
    ),
}


@pytest.mark.endurance
@pytest.mark.timeout(3600)
async def test_five_broken_changes_are_taken_back_and_a_good_one_goes_through(site: Site) -> None:
    spec: dict[str, Any] = {"replicas": 3, "rollout": {"progressDeadlineSeconds": 60}}
    site.apply("rolled", engine=fake(), **spec)
    await site.until_ready("rolled", replicas=3)
    url = site.url("rolled")
    for what, (change, words) in BROKEN.items():
        old = site.uids("rolled")
        async with (
            sampled(site, "rolled") as counts,
            streams(url, model="rolled", count=20, seconds=30, rate=TOKENS_PER_SECOND) as long,
            requests(url, model="rolled", per_second=10) as short,
        ):
            site.apply("rolled", **{"engine": fake(), **change}, **spec)
            await site.until(f"{what} is told", lambda words=words: _is_rolled_back(site, words))  # type: ignore[misc]
            await site.until("three replicas, all old", lambda: len(site.pods("rolled", "worker")) == 3)
        print(f"\n{what}: streams {long}; requests {short}; at most {max(counts.pods)} pods")
        print(site.condition("rolled")["message"])
        assert site.condition("rolled", "Available")["status"] == "True"
        assert max(counts.pods) <= 4
        # What an engine had under way when it died is cut, and its clients are told; all else is answered.
        allowed = {Fault.CUT} if "dies" in what else set()
        assert site.uids("rolled") == old or "dies" in what, "no replica that served was touched"
        assert long.kinds.keys() | short.kinds.keys() <= allowed
    site.apply("rolled", engine=fake(**{"max-concurrent": 50}), **spec)
    await site.until_ready("rolled", replicas=3)


def _is_rolled_back(site: Site, words: str) -> bool:
    ready = site.condition("rolled")
    return ready.get("reason") == "RolledBack" and words in ready["message"]


@pytest.mark.vllm
@pytest.mark.endurance
async def test_vllm_rolls_out_and_back_and_nothing_fails(site: Site) -> None:
    vllm.offer(site)
    spec = {"replicas": 1, "rollout": {"progressDeadlineSeconds": 300}}
    site.apply("tiny", **vllm.spec("tiny"), **spec)
    await site.until_ready("tiny", replicas=1)
    first = site.get("llmdeployment", "tiny")["status"]["revisions"][0]["hash"]
    target = Target(site.url("tiny"), "tiny", lambda _text, _tokens: "")

    async def one_after_the_other(client: Client) -> None:
        while not client.over.is_set():
            await client.send(Arrival(client.seconds, prompt_tokens=8, output_tokens=20))

    async with Client(target) as client, client.until_over() as group:
        group.create_task(one_after_the_other(client))
        site.apply("tiny", **vllm.spec("tiny", args={"max-num-seqs": 16}), **spec)
        await site.until_ready("tiny", replicas=1)
        site.apply("tiny", **vllm.spec("tiny", args={"max-model-length": 512}), **spec)
        message = await site.until_reason("tiny", "RolledBack")
        assert "max-model-length" in message
        rollout = {**spec["rollout"], "revision": first}  # type: ignore[dict-item]
        site.apply("tiny", **vllm.spec("tiny"), replicas=1, rollout=rollout)
        await site.until_ready("tiny", replicas=1)
    print(f"\nvLLM, changed, rolled back, and back by name: {client.outcome}; {message}")
    assert not client.outcome.faults
