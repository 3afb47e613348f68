"""What happens when there is no place: a bounded wait, then words a person understands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.router.client import Client
from tests.router.rig import Rig, running, until, until_up


async def _fill(rig: Rig, count: int) -> list[Client]:
    """Clients whose requests a replica, or the head, holds unanswered."""
    servers = (*rig.replicas, rig.head)
    for each in servers:
        each.first_byte.clear()
    clients = [rig.client() for _ in range(count)]
    for client in clients:
        await client.send("POST", "/v1/chat/completions", body=b"{}")
    await until(lambda: sum(each.ongoing for each in servers) == count, f"{count} requests at the replicas")
    return clients


def _release(rig: Rig) -> None:
    for each in (*rig.replicas, rig.head):
        each.first_byte.set()


async def test_a_replica_never_has_more_than_its_share(tmp_path: Path) -> None:
    async with running(tmp_path, max_ongoing_per_replica=3) as rig:
        await _fill(rig, 6)
        asked = [asyncio.create_task(rig.ask()) for _ in range(20)]
        await rig.queue(20)
        _release(rig)
        assert {each.status for each in await asyncio.gather(*asked)} == {200}
        assert [each.most_ongoing for each in rig.replicas] == [3, 3]


@pytest.mark.parametrize("limit", [0, 5])
async def test_a_full_queue_is_told_at_once(tmp_path: Path, limit: int) -> None:
    async with running(tmp_path, replicas=1, max_ongoing_per_replica=2, max_queue=limit) as rig:
        await _fill(rig, 2)
        waiting = [asyncio.create_task(rig.ask()) for _ in range(limit)]
        await rig.queue(limit)
        for body in (b"{}", b"x" * 200_000):
            refused = await rig.ask(body=body)
            assert (refused.status, refused.error()["code"]) == (429, "queue_full")
            assert 1 <= int(refused.headers["retry-after"]) <= 3
        _release(rig)
        assert {each.status for each in await asyncio.gather(*waiting)} <= {200}
        await until(lambda: not rig.replicas[0].ongoing, "a place")
        assert (await rig.ask()).status == 200


async def test_a_wait_in_vain_is_told_as_overload(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, max_ongoing_per_replica=1, queue_timeout_seconds=1) as rig:
        await _fill(rig, 1)
        answer = await rig.ask()
        assert (answer.status, answer.error()["code"]) == (429, "no_replica_available")
        assert 1 <= int(answer.headers["retry-after"]) <= 3


async def test_a_client_that_leaves_the_queue_frees_its_place(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, max_ongoing_per_replica=1, max_queue=1) as rig:
        await _fill(rig, 1)
        waiting = rig.client()
        await waiting.send("POST", "/v1/chat/completions", body=b"{}")
        await rig.queue(1)
        assert (await rig.ask()).status == 429
        waiting.close()
        await rig.queue(0)
        assert len(rig.replicas[0].received) == 1


@pytest.mark.parametrize("answered", [False, True], ids=["before the first byte", "mid-stream"])
async def test_a_client_that_leaves_stops_the_engine(tmp_path: Path, answered: bool) -> None:  # noqa: FBT001
    async with running(tmp_path, replicas=1, max_ongoing_per_replica=1) as rig:
        replica = rig.replicas[0]
        (replica.last_byte if answered else replica.first_byte).clear()
        client = rig.client()
        await client.send("POST", "/v1/chat/completions", body=b"{}")
        await until(lambda: replica.ongoing, "the request at the replica")
        if answered:
            assert await client.head() == 200
        client.close()
        await until(lambda: replica.left == 1, "the replica saw the client leave")
        replica.first_byte.set()
        replica.last_byte.set()
        assert (await rig.ask()).status == 200


async def test_the_head_holds_requests_while_no_replica_is_up(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        rig.head.first_byte.clear()
        await rig.replicas[0].kill()
        await until_up(rig, 1)
        held = [asyncio.create_task(rig.ask()) for _ in range(4)]
        await until(lambda: rig.head.ongoing == 4, "4 requests held")
        await rig.replicas[0].start()
        await until_up(rig, 2)
        assert (await rig.ask()).headers["x-replica"] == rig.replicas[0].address
        rig.head.first_byte.set()
        assert {each.headers["x-replica"] for each in await asyncio.gather(*held)} == {rig.head.address}


async def test_the_head_holds_no_more_than_the_queue_would(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=0, max_queue=3) as rig:
        await _fill(rig, 3)
        refused = await rig.ask()
        assert (refused.status, refused.error()["code"]) == (429, "queue_full")


async def test_requests_that_wait_when_the_last_replica_dies_are_answered_by_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, max_ongoing_per_replica=2) as rig:
        clients = await _fill(rig, 2)
        asked = [asyncio.create_task(rig.ask()) for _ in range(5)]
        await rig.queue(5)
        await rig.replicas[0].kill()
        await until(lambda: rig.head.ongoing >= 2, "those that it had at the head")
        await rig.replicas[0].start()
        rig.head.first_byte.set()
        answers = await asyncio.gather(*asked, *(each.answer() for each in clients))
        assert {each.status for each in answers} == {200}


async def test_without_replica_and_head_the_reason_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=0, head=False) as rig:
        answer = await rig.ask()
        assert (answer.status, answer.error()["code"]) == (503, "no_replica")
        assert answer.headers["retry-after"] == "5"
        assert (await rig.ask("GET", "/health")).status == 503
        assert (await rig.ask("GET", "/nowhere")).status == 404


@pytest.mark.parametrize("status", [404, 500])
async def test_a_head_that_does_not_know_the_application_yet_is_no_answer(tmp_path: Path, status: int) -> None:
    async with running(tmp_path, replicas=0) as rig:
        rig.head.status, rig.head.content_type = status, "text/plain"
        answer = await rig.ask()
        assert (answer.status, answer.error()["code"]) == (503, "head_starting")


async def test_a_replica_that_is_silent_for_too_long_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=2, request_timeout_seconds=1) as rig:
        for each in rig.replicas:
            each.first_byte.clear()
        answer = await asyncio.wait_for(rig.ask(), 30)
        assert (answer.status, answer.error()["code"]) == (504, "timeout")
        assert "no replica sent anything for 1 s" in answer.error()["message"]
        assert sum(len(each.received) for each in rig.replicas) == 1


async def test_a_request_that_the_head_holds_for_too_long_is_told_to_come_back(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=0, request_timeout_seconds=1) as rig:
        rig.head.first_byte.clear()
        answer = await asyncio.wait_for(rig.ask(), 30)
        assert (answer.status, answer.error()["code"]) == (429, "no_replica_available")
        assert 1 <= int(answer.headers["retry-after"]) <= 3
        assert "no replica came up and answered within 1 s" in answer.error()["message"]
        assert len(rig.head.received) == 1, "it is held once, and not sent again"
