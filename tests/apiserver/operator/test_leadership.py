"""Two operators: one writes, and another takes over. Each has a proxy of its own, which tells who wrote when."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.process import Operator
from tests.apiserver.operator.proxy import Proxy, Seen
from tests.apiserver.operator.world import until

pytestmark = [pytest.mark.apiserver, pytest.mark.patient]


@dataclass(slots=True)
class Pair:
    """Two operators; the first leads."""

    first: Operator
    first_proxy: Proxy
    second: Operator
    second_proxy: Proxy

    def assert_turns(self) -> None:
        """No write of one stands between writes of the other."""
        who = sorted(
            [(seen.at, "first") for seen in self.first_proxy.writes]
            + [(seen.at, "second") for seen in self.second_proxy.writes]
        )
        turns = [name for n, (_, name) in enumerate(who) if n == 0 or who[n - 1][1] != name]
        assert turns in (["first", "second"], ["first"], ["second"]), turns


@asynccontextmanager
async def pair(place: Place) -> AsyncIterator[Pair]:
    async with place.proxy() as first_proxy, place.proxy() as second_proxy:
        first = place.operator(first_proxy, name="first")
        second = place.operator(second_proxy, name="second")
        await first.start()
        await first.leads()
        await second.start()
        await until(lambda: second.logged("started"), "the second watches")
        yield Pair(first, first_proxy, second, second_proxy)


async def change(place: Place, label: str) -> None:
    """Ask for something that takes a write: another count of routers."""
    await place.api.merge("LLMDeployment", "qwen3", {"spec": {"router": {"replicas": int(label)}}})


async def routers(place: Place) -> int:
    found = await place.api.get("Deployment", "qwen3-router")
    return int(found["spec"]["replicas"]) if found else 0


async def test_only_the_leader_writes(place: Place) -> None:
    async with pair(place) as two:
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        assert two.first_proxy.writes
        assert [seen for seen in two.second_proxy.seen if seen.writes] == []
        assert await two.first.metric("sundog_leading") == 1
        assert await two.second.metric("sundog_leading") == 0
        assert (await two.second.get("/readyz"))[0] == 200


async def test_after_a_graceful_exit_another_takes_over_within_15_seconds(place: Place) -> None:
    async with pair(place) as two:
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        assert await two.first.stop() == 0
        ended = time.monotonic()
        await change(place, "3")

        async def is_changed() -> bool:
            return await routers(place) == 3

        await until(is_changed, "the second has written", seconds=15)
        print(f"take-over after a graceful exit: {time.monotonic() - ended:.1f} s")
        two.assert_turns()


async def test_after_a_kill_another_takes_over_within_30_seconds(place: Place) -> None:
    async with pair(place) as two:
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await two.first.kill()
        ended = time.monotonic()
        await change(place, "3")

        async def is_changed() -> bool:
            return await routers(place) == 3

        await until(is_changed, "the second has written", seconds=30)
        print(f"take-over after a kill: {time.monotonic() - ended:.1f} s")
        two.assert_turns()


async def test_a_leader_that_was_stopped_and_wakes_up_writes_nothing_more(place: Place) -> None:
    async with pair(place) as two:
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        two.first.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        await change(place, "3")

        async def is_changed() -> bool:
            return await routers(place) == 3

        await until(is_changed, "the second has written")
        print(f"take-over from a stopped leader: {time.monotonic() - stopped:.1f} s")
        # What the first finds when it wakes: much to do.
        await place.api.create("LLMDeployment", llm_deployment("another"))
        await place.api.delete("Service", "qwen3-replicas")
        written = len([seen for seen in two.first_proxy.seen if seen.writes and seen.status < 300])
        two.first.signal(signal.SIGCONT)
        assert await two.first.ended() == 1
        assert two.first.log()[-1]["event"].startswith("The Lease was lost to second_")
        await until(lambda: place.is_ready("another"), "the other is ready")
        assert len([seen for seen in two.first_proxy.seen if seen.writes and seen.status < 300]) == written
        two.assert_turns()


async def test_a_leader_that_was_stopped_in_the_middle_of_a_pass_writes_nothing_more(place: Place) -> None:
    async with pair(place) as two:
        reached = asyncio.Event()

        async def stop_at_the_third_write(_: Seen) -> None:
            if len(two.first_proxy.writes) == 3 and not reached.is_set():
                two.first.signal(signal.SIGSTOP)
                reached.set()

        two.first_proxy.after = stop_at_the_third_write
        await place.api.create("LLMDeployment", llm_deployment())
        await asyncio.wait_for(reached.wait(), 30)
        await until(place.is_ready, "the second made qwen3 ready")
        written = len(two.first_proxy.writes)
        two.first.signal(signal.SIGCONT)
        assert await two.first.ended() == 1
        assert len(two.first_proxy.writes) == written
        two.assert_turns()
