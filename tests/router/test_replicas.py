"""Replicas come, drain and die; no request fails that was not already being answered by the one that died."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sundog_operator.core import names
from tests.router.replica import Replica
from tests.router.rig import Rig, running, until, until_up


async def _burst(rig: Rig, count: int, body: bytes = b"{}") -> list[str]:
    """So many requests at once; the replica of each. All must be answered in whole."""
    answers = await asyncio.gather(*(rig.ask(body=body) for _ in range(count)))
    assert [(each.status, each.complete) for each in answers] == [(200, True)] * count
    return [each.headers["x-replica"] for each in answers]


async def test_each_request_goes_to_the_replica_with_the_fewest(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=3) as rig:
        for each in rig.replicas:
            each.last_byte.clear()
        for count in (1, 2, 3):
            for _ in rig.replicas:
                await rig.stream()
            assert [each.ongoing for each in rig.replicas] == [count] * 3


async def test_a_draining_replica_keeps_its_streams_and_gets_no_more(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=2) as rig:
        draining, other = rig.replicas
        stream = await rig.stream_of(draining)
        draining.health = 503
        await until_up(rig, 2)
        assert set(await _burst(rig, 20)) == {other.address}
        draining.last_byte.set()
        answer = await stream.answer()
        assert answer.complete
        assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("size", [2, 1_000_000])
async def test_a_replica_that_refuses_while_it_drains_costs_nothing(tmp_path: Path, size: int) -> None:
    """Serve closes its listener at the end of a drain, when this router may not have looked at its health yet."""
    async with running(tmp_path, replicas=3) as rig:
        await rig.replicas[0].kill()
        assert rig.replicas[0].address not in await _burst(rig, 20, b"x" * size)


async def test_replicas_that_die_together_cost_only_their_own_streams(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=10) as rig:
        for each in rig.replicas:
            each.last_byte.clear()
        streams = [await rig.stream() for _ in range(30)]
        for each in rig.replicas[:8]:
            await each.kill()
        for each in rig.replicas[8:]:
            each.last_byte.set()
        await _burst(rig, 1)  # alone, it may meet every one of them
        await _burst(rig, 30)
        complete = [(await each.answer()).complete for each in streams]
        assert complete.count(True) == 6


async def test_a_stream_cut_by_the_death_of_its_replica_does_not_look_complete(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        client = await rig.stream_of(rig.replicas[0])
        assert await client.chunk() == b"data: first\n\n"
        await rig.replicas[0].kill()
        with pytest.raises(ConnectionError):
            await client.chunk()


@pytest.mark.parametrize("size", [2, 60_000])
async def test_a_request_that_was_not_answered_yet_is_repeated_elsewhere(tmp_path: Path, size: int) -> None:
    async with running(tmp_path, replicas=2) as rig:
        for each in rig.replicas:
            each.first_byte.clear()
        clients = [rig.client() for _ in range(10)]
        for client in clients:  # headers first and the body later, as most clients do
            await client.send("POST", "/v1/completions", headers={"content-length": str(size)})
        await rig.requests(len(clients))
        for client in clients:
            await client.write(b"x" * size)
        await until(lambda: [each.ongoing for each in rig.replicas] == [5, 5], "5 requests at each replica")
        await rig.replicas[0].kill()
        await until(lambda: rig.replicas[1].ongoing == 10, "all at the other replica")
        rig.replicas[1].first_byte.set()
        answers = [await client.answer() for client in clients]
        assert [each.status for each in answers] == [200] * 10
        assert {len(each.body) for each in rig.replicas[1].received} == {size}


async def test_a_request_that_a_replica_gives_back_is_answered_by_another(tmp_path: Path) -> None:
    """Its engine died; Serve will notice in some seconds."""
    async with running(tmp_path, replicas=2) as rig:
        dead, other = rig.replicas
        dead.status = names.GIVEN_BACK
        assert set(await _burst(rig, 20)) == {other.address}
        assert dead.received
        other.status = names.GIVEN_BACK
        answer = await rig.ask()
        assert answer.status == 503
        assert b"the engine died before it answered" in answer.body


async def test_a_request_too_large_to_repeat_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=2) as rig:
        for each in rig.replicas:
            each.first_byte.clear()
        asked = asyncio.create_task(rig.ask(body=b"x" * 200_000))
        await until(lambda: sum(each.ongoing for each in rig.replicas), "the request at a replica")
        await next(each for each in rig.replicas if each.ongoing).kill()
        answer = await asked
        assert (answer.status, answer.error()["code"]) == (502, "replica_failed")
        assert answer.headers["retry-after"]
        assert sum(len(each.received) for each in rig.replicas) == 1


async def test_a_new_replica_gets_requests_without_a_reload(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        new = Replica("127.0.0.3", rig.settings.replica_port)
        await new.start()
        rig.replicas.append(new)
        rig.resolve(rig.replicas)
        await until_up(rig, 3)
        assert set(await _burst(rig, 20)) == {each.address for each in rig.replicas}


async def test_the_address_of_a_replica_that_still_loads_costs_nothing(tmp_path: Path) -> None:
    """The Service publishes pods before they are ready."""
    async with running(tmp_path, replicas=1) as rig:
        loading = Replica("127.0.0.3", rig.settings.replica_port)
        rig.replicas.append(loading)
        queries = rig.names.queries
        rig.resolve(rig.replicas)
        while rig.names.queries < queries + 4:
            assert set(await _burst(rig, 5)) == {rig.replicas[0].address}
        await loading.start()
        await until_up(rig, 3)
        assert set(await _burst(rig, 20)) == {each.address for each in rig.replicas}


async def test_a_slot_that_passes_to_another_pod_costs_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=2, address_hold_seconds=1) as rig:
        loading = Replica("127.0.0.9", rig.settings.replica_port)
        rig.resolve([rig.replicas[0], loading])
        queries = rig.names.queries
        while rig.names.queries < queries + 6:
            await _burst(rig, 5)
        assert loading.received == []


async def test_an_address_that_became_another_deployments_replica_costs_nothing(tmp_path: Path) -> None:
    """It passes the health check, and answers 403 to the token that it does not know."""
    async with running(tmp_path, replicas=3) as rig:
        rig.replicas[0].status = 403
        assert rig.replicas[0].address not in await _burst(rig, 20)
        assert rig.replicas[0].received


async def test_a_replica_that_does_not_know_the_token_is_no_answer(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, head=False) as rig:
        rig.replicas[0].status = 403
        answer = await rig.ask(body=b"x" * 200_000)
        assert (answer.status, answer.error()["code"]) == (503, "replica_refused")
        assert answer.headers["retry-after"] == "1"
