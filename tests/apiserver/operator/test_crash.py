"""The operator is killed at every write of a life: nothing is lost, and nothing is made or deleted twice.

The oracle is Sieve's (OSDI 2022): the final objects equal those of a run without a fault, and each object was created
and deleted as often.
"""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections import Counter
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

AT_ONCE = 3
QUIET_SECONDS = 1.5
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
    writes: int
    killed_at: str


class Killer:
    """Kills the operator at the nth write of its kind, and starts another."""

    def __init__(self, place: Place, proxy: Proxy, *, nth: int, moment: str) -> None:
        self._place = place
        self._proxy = proxy
        self._nth = nth
        self._moment = moment
        self._operator: Operator | None = None
        self.writes = 0
        self.killed_at = ""
        self._fatal: Seen | None = None

    async def start(self) -> None:
        self._operator = self._place.operator(self._proxy, **SETTINGS)
        await self._operator.start()

    def arm(self) -> None:
        """Count from now on."""
        self._proxy.before, self._proxy.after = self._before, self._after
        self._place.heads.before, self._place.heads.after = self._before_head, self._after_head

    async def has_settled(self) -> bool:
        """Whether the operator that lives has looked and found nothing to do, and nothing was written for a while."""
        assert self._operator
        if not self._operator.running:
            await self.start()  # on a busy machine it may lose a Lease of 2 s; a kubelet would start it again
        last = max((seen.at for seen in self._proxy.writes), default=0.0)
        unchanged = await self._operator.metric('sundog_passes_total{result="unchanged"}')
        return unchanged >= 1 and time.monotonic() - last > QUIET_SECONDS

    async def _before(self, seen: Seen) -> web.StreamResponse | None:
        if seen.writes and not (seen.of_lease and seen.method == "PUT"):
            self.writes += 1
            if self.writes == self._nth:
                if self._moment == "before":
                    await self._kill(f"{seen.verb} {seen.resource}")
                    raise Cut
                self._fatal = seen
        return None

    async def _after(self, seen: Seen) -> web.StreamResponse | None:
        if seen is self._fatal:
            await self._kill(f"{seen.verb} {seen.resource}")
            raise Cut
        return None

    async def _before_head(self) -> None:
        self.writes += 1
        if self.writes == self._nth and self._moment == "before":
            await self._kill("Ray head")
            await self._place.heads.closing.wait()  # it is not done, and nobody waits for an answer

    async def _after_head(self) -> None:
        if self.writes == self._nth and self._moment == "after" and not self.killed_at:
            await self._kill("Ray head")

    async def _kill(self, what: str) -> None:
        assert self._operator
        self.killed_at = what
        self._operator.signal(signal.SIGKILL)
        await self._operator.ended()
        await self.start()


async def run(cluster: Cluster, folder: Path, life: Life, *, nth: int, moment: str) -> Outcome:
    namespace = f"crash-{uuid.uuid4().hex[:6]}x"
    await asyncio.to_thread(cluster.kubectl, "create", "namespace", namespace)
    own = folder / namespace
    own.mkdir()
    try:
        async with new_place(cluster, namespace, own) as place, place.proxy() as proxy:
            killer = Killer(place, proxy, nth=nth, moment=moment)
            await killer.start()
            await life.prepare(place)
            killer.arm()
            await life.act(place)

            async def settled() -> bool:
                return await life.settled(place) and await killer.has_settled()

            await until(
                settled,
                lambda: f"{life.name} settles after a kill {moment} write {nth}, {killer.killed_at}",
                seconds=120,
            )
            return Outcome(
                objects=await place.api.snapshot(),
                creates_and_deletes=Counter(
                    (seen.verb, seen.resource, normalised(seen.name, namespace))
                    for seen in proxy.seen
                    if (seen.status == 201 and seen.resource != "events")
                    or (seen.method == "DELETE" and seen.status == 200)
                ),
                writes=killer.writes,
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


async def scale_down(place: Place) -> None:
    await place.api.merge("LLMDeployment", "qwen3", {"spec": {"replicas": 1}})


async def has_one_revision(place: Place) -> bool:
    return await place.is_ready() and len(await place.api.list("Deployment")) == 3


LIVES = [
    Life("create", nothing, create, has_one_revision),
    Life("scale down", create_and_wait, scale_down, has_one_revision),
    Life("change the model", create_and_wait, change_the_model, has_one_revision),
]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name.replace(" ", "-"))
async def test_a_kill_at_any_write_loses_nothing_and_doubles_nothing(
    cluster: Cluster, tmp_path: Path, life: Life
) -> None:
    whole = await run(cluster, tmp_path, life, nth=0, moment="")
    print(f"{life.name}: {whole.writes} writes without a fault")
    assert whole.writes > 2
    at_once = asyncio.Semaphore(AT_ONCE)

    # Whether it had read the answer makes no difference to its successor, which knows only what is written down: to be
    # killed after one write is to be killed before the next.
    kills = [(1, "before"), *((n, "after") for n in range(1, whole.writes + 1))]

    async def one(nth: int, moment: str) -> tuple[int, str, Outcome]:
        async with at_once:
            outcome = await run(cluster, tmp_path, life, nth=nth, moment=moment)
            print(f"{life.name}: killed {moment} write {nth}, {outcome.killed_at or 'not reached'}")
            return nth, moment, outcome

    async with asyncio.TaskGroup() as runs:
        tasks = [runs.create_task(one(n, moment)) for n, moment in kills]
    outcomes = [task.result() for task in tasks]
    assert sum(bool(outcome.killed_at) for _, _, outcome in outcomes) > len(outcomes) / 2
    for nth, moment, outcome in outcomes:
        where = f"killed {moment} write {nth}: {outcome.killed_at}"
        # How often the status is written on the way depends on how quickly things happen.
        assert outcome.killed_at or outcome.writes < nth, where
        assert differences(outcome.objects, whole.objects) == [], where
        assert outcome.creates_and_deletes == whole.creates_and_deletes, where
