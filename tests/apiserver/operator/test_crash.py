"""The operator is killed at every write of a life: nothing is lost, and nothing is made or deleted twice.

The oracle is Sieve's (OSDI 2022): the final objects equal those of a run without a fault, and each object was created
and deleted as often.

An operator knows only what is written down. So whoever is killed after the nth write leaves to its successor what an
operator killed at each of the n writes would have left: one life with a kill at every write goes through all the states
that as many lives with one kill each would, at half the cost. Lanes share a life's writes among them, side by side:
in which of them a write is deadly hangs on what is written, and not on when.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.apiserver.operator.conftest import Place, llm_deployment, new_place
from tests.apiserver.operator.process import Operator
from tests.apiserver.operator.proxy import Cut, Proxy, Seen
from tests.apiserver.operator.world import differences, normalised, until
from tests.cluster import Cluster

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(3600)]

LANES = 3
"""Operators that are killed side by side, each at a third of the writes."""
Turns = defaultdict[tuple[str, int], int]
"""A number for each write of a life, in the order in which any lane comes to it: neighbours are of different lanes."""
QUIET_SECONDS = 1.5
SETTLE_SECONDS = 400.0
SETTINGS = {"lease_seconds": "2"}
"""After a kill the next operator waits for the Lease: with the default, each run would take 13 s more."""


@dataclass(frozen=True, slots=True)
class Life:
    """Something that happens to a resource."""

    name: str
    prepare: Callable[[Place], Awaitable[None]]
    """Without faults."""
    act: Callable[[Place], Awaitable[None]]
    settled: Callable[[Place], Awaitable[bool]]


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    objects: dict[str, Any]
    creates_and_deletes: Counter[tuple[str, str, str]]
    writes: set[str]
    killed_at: list[str]


def new_turns() -> Turns:
    return defaultdict(itertools.count().__next__)


class Killer:
    """Kills the operator at every write of a lane, and starts another each time."""

    def __init__(self, place: Place, proxy: Proxy, *, lane: int | None, turns: Turns) -> None:
        self._place = place
        self._proxy = proxy
        self._lane = lane
        self._turns = turns
        self._operator: Operator | None = None
        self._turn = asyncio.Lock()
        self.writes: Counter[str] = Counter()
        self.killed_at: list[str] = []
        self._fatal: Seen | None = None
        self._fatal_to_head = False
        self._last = ""

    async def start(self) -> None:
        self._operator = self._place.operator(self._proxy, **SETTINGS)
        await self._operator.start()

    async def keep(self) -> None:
        """Start it again when it ends, as a kubelet would: on a busy machine it may lose a Lease of 2 s."""
        assert self._operator
        while True:
            async with self._turn:
                if not self._operator.running:
                    await self.start()
            await asyncio.sleep(0.2)

    def arm(self) -> None:
        """Count from now on."""
        self._proxy.before, self._proxy.after = self._before, self._after
        self._place.heads.before, self._place.heads.after = self._before_head, self._after_head

    async def has_settled(self) -> bool:
        """Whether the operator that lives has looked and found nothing to do, and nothing was written for a while."""
        assert self._operator
        last = max((seen.at for seen in self._proxy.writes), default=0.0)
        looked = await self._operator.metric('sundog_passes_total{result="unchanged"}') >= 1
        looked = looked or not await self._place.api.list("LLMDeployment")
        return looked and time.monotonic() - last > QUIET_SECONDS

    def _is_its_turn(self, what: str) -> bool:
        """Whether the operator is to be killed at this write; not at one that its forerunner was killed at too.

        An Event whose status was not written is sent again, and a Secret that is there already is created again: that
        is as it should be, and would go on for ever.
        """
        self.writes[what] += 1
        again, self._last = what == self._last, what
        return self._turns[what, self.writes[what]] % LANES == self._lane and not again

    async def _before(self, seen: Seen) -> web.StreamResponse | None:
        if not seen.writes or (seen.of_lease and seen.method == "PUT"):
            return None
        if self._is_its_turn(self._words(seen)):
            if not self.killed_at:
                # The first one, before its write; all later ones after it, which is before the next.
                await self._kill(f"before {self._words(seen)}")
                raise Cut
            self._fatal = seen
        return None

    async def _after(self, seen: Seen) -> web.StreamResponse | None:
        if seen is self._fatal:
            await self._kill(self._words(seen))
            raise Cut
        return None

    def _words(self, seen: Seen) -> str:
        return f"{seen.verb} {seen.resource} {normalised(seen.name, self._place.namespace)}"

    async def _before_head(self) -> None:
        self._fatal_to_head = self._is_its_turn("Ray head")
        if self._fatal_to_head and not self.killed_at:
            await self._kill("before Ray head")
            await self._place.heads.closing.wait()  # it is not done, and nobody waits for an answer

    async def _after_head(self) -> None:
        if self._fatal_to_head:
            await self._kill("Ray head")

    async def _kill(self, what: str) -> None:
        assert self._operator
        self.killed_at.append(what)
        async with self._turn:
            self._operator.signal(signal.SIGKILL)
            await self._operator.ended()
            await self.start()


async def run(cluster: Cluster, folder: Path, life: Life, *, lane: int | None, turns: Turns) -> Outcome:
    namespace = f"crash-{uuid.uuid4().hex[:6]}x"
    await asyncio.to_thread(cluster.kubectl, "create", "namespace", namespace)
    own = folder / namespace
    own.mkdir()
    try:
        async with new_place(cluster, namespace, own) as place, place.proxy() as proxy:
            killer = Killer(place, proxy, lane=lane, turns=turns)
            await killer.start()
            keeping = asyncio.create_task(killer.keep())
            try:
                await life.prepare(place)
                # Ready may be told before that a revision serves is remembered: no write of the preparation may count.
                await until(killer.has_settled, f"{life.name} is prepared", seconds=SETTLE_SECONDS)
                killer.arm()
                await life.act(place)

                async def settled() -> bool:
                    return await life.settled(place) and await killer.has_settled()

                await until(
                    settled,
                    lambda: f"{life.name} settles after kills at {killer.killed_at}",
                    seconds=SETTLE_SECONDS,
                    every=0.2,  # several lists each time, in four lanes
                )
            finally:
                keeping.cancel()
            return Outcome(
                objects=await place.api.snapshot(),
                creates_and_deletes=Counter(
                    (seen.verb, seen.resource, normalised(seen.name, namespace))
                    for seen in proxy.seen
                    if (seen.status == 201 and seen.resource != "events")
                    or (seen.method == "DELETE" and seen.status == 200)
                ),
                writes=set(killer.writes),
                killed_at=killer.killed_at,
            )
    finally:
        await asyncio.to_thread(cluster.kubectl, "delete", "namespace", namespace, "--wait=false")


async def nothing(_: Place) -> None:
    pass


async def create(place: Place) -> None:
    await place.api.create("LLMDeployment", llm_deployment())


async def create_and_wait(place: Place) -> None:
    await place.api.create("LLMDeployment", llm_deployment(replicas=2))
    await until(place.is_ready, "qwen3 is ready")


async def change_the_model(place: Place) -> None:
    await place.api.merge("LLMDeployment", "qwen3", {"spec": {"model": {"uri": "hf://Qwen/Qwen3-1.7B"}}})


def scale_to(replicas: int) -> Callable[[Place], Awaitable[None]]:
    async def scale(place: Place) -> None:
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"replicas": replicas}})

    return scale


async def break_it(place: Place) -> None:
    await place.api.merge("LLMDeployment", "qwen3", {"spec": {"nodeSelector": {"broken": "yes"}}})


async def suspend(place: Place) -> None:
    await place.api.merge("LLMDeployment", "qwen3", {"spec": {"suspend": True}})


async def has_one_revision(place: Place) -> bool:
    return await place.is_ready() and len(await place.api.list("Deployment")) == 3


async def is_rolled_back(place: Place) -> bool:
    told = await place.api.ready_reason("qwen3") == ("False", "RolledBack")
    return told and len(await place.api.list("Deployment")) == 3


async def is_suspended(place: Place) -> bool:
    return await place.api.ready_reason("qwen3") == ("True", "Suspended")


LIVES = [
    Life("create", nothing, create, has_one_revision),
    Life("scale up", create_and_wait, scale_to(3), has_one_revision),
    Life("scale down", create_and_wait, scale_to(1), has_one_revision),
    Life("change the model", create_and_wait, change_the_model, has_one_revision),
    Life("withdraw a broken revision", create_and_wait, break_it, is_rolled_back),
    Life("suspend", create_and_wait, suspend, is_suspended),
]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name.replace(" ", "-"))
async def test_a_kill_at_any_write_loses_nothing_and_doubles_nothing(
    cluster: Cluster, tmp_path: Path, life: Life
) -> None:
    turns = new_turns()
    async with asyncio.TaskGroup() as runs:
        lanes = [
            runs.create_task(run(cluster, tmp_path, life, lane=lane, turns=turns)) for lane in (None, *range(LANES))
        ]
    whole, *killed = [lane.result() for lane in lanes]
    print(f"{life.name}: {len(whole.writes)} kinds of writes without a fault")
    assert len(whole.writes) > 2
    for lane, outcome in enumerate(killed):
        print(f"{life.name}, lane {lane}: killed at {outcome.killed_at}")
        where = f"lane {lane}, killed at {outcome.killed_at}"
        assert differences(outcome.objects, whole.objects) == [], where
        assert outcome.creates_and_deletes == whole.creates_and_deletes, where
    deadly = {where.removeprefix("before ") for outcome in killed for where in outcome.killed_at}
    assert whole.writes <= deadly, "writes at which nobody was killed"


async def create_and_delete_meanwhile(place: Place) -> None:
    await create(place)
    await until(lambda: place.api.list("Deployment"), "the first of its Deployments is there")
    await place.api.delete("LLMDeployment", "qwen3")


async def is_gone(place: Place) -> bool:
    return not await place.api.snapshot() and not await place.api.list("Pod")


async def test_a_kill_at_any_write_of_a_resource_that_is_deleted_while_it_is_made_leaves_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    """How much of it had been made by then differs; so only the end is compared, which has no objects."""
    life = Life("delete while it is made", nothing, create_and_delete_meanwhile, is_gone)
    turns = new_turns()
    async with asyncio.TaskGroup() as runs:
        lanes = [runs.create_task(run(cluster, tmp_path, life, lane=lane, turns=turns)) for lane in range(LANES)]
    for lane in lanes:
        print(f"{life.name}: killed at {lane.result().killed_at}")
        assert lane.result().killed_at
