"""What DNS says decides where to look, never what is taken out: that is for health checks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.router.rig import REPLICAS_HOST, Rig, running, until, until_up


async def _after_queries(rig: Rig, count: int) -> None:
    """Wait until DNS was asked so many times more."""
    goal = rig.names.queries + count
    await until(lambda: rig.names.queries >= goal, f"{count} more DNS queries")


async def _serves(rig: Rig, count: int) -> None:
    answers = await asyncio.gather(*(rig.ask() for _ in range(4 * count)))
    assert {each.status for each in answers} == {200}
    assert {each.headers["x-replica"] for each in answers} == {each.address for each in rig.replicas}


async def test_a_dns_server_that_fails_removes_no_replica(tmp_path: Path) -> None:
    async def fail_with(name: str, code: int) -> None:
        folder = tmp_path / name
        folder.mkdir()
        async with running(folder, replicas=3) as rig:
            rig.names.code = code
            await _after_queries(rig, 24)  # HAProxy gives up on a name after 12
            await until_up(rig, 4)
            await _serves(rig, 3)

    await asyncio.gather(fail_with("SERVFAIL", 2), fail_with("NXDOMAIN", 3), fail_with("REFUSED", 5))


async def test_a_dns_server_that_is_gone_removes_no_replica(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=3) as rig:
        rig.names.stop()
        for _ in range(12):  # a refused query is no event to wait for
            await _serves(rig, 3)
            await asyncio.sleep(0.5)
        await rig.names.start(rig.names.port)
        await _after_queries(rig, 2)
        await until_up(rig, 4)


async def test_an_answer_that_lacks_an_address_removes_no_replica_at_once(tmp_path: Path) -> None:
    """Two DNS servers of a cluster may contradict each other for as long as they cache."""
    async with running(tmp_path, replicas=3) as rig:
        for present in (rig.replicas[:2], rig.replicas, rig.replicas[1:]):
            rig.resolve(present)
            await _after_queries(rig, 4)
            await _serves(rig, 3)


async def test_an_address_that_dns_no_longer_names_gets_no_request(tmp_path: Path) -> None:
    """Its pod is gone, and the address may some day be another's. A stream that is left is not cut."""
    async with running(tmp_path, replicas=3, address_hold_seconds=1) as rig:
        gone = rig.replicas[2]
        stream = await rig.stream_of(gone)
        rig.resolve(rig.replicas[:2])
        await until_up(rig, 3)
        answers = await asyncio.gather(*(rig.ask() for _ in range(12)))
        assert gone.address not in {each.headers["x-replica"] for each in answers}
        gone.last_byte.set()
        assert (await stream.answer()).complete


async def test_the_last_replicas_name_may_vanish_and_come_back(tmp_path: Path) -> None:
    """At zero replicas DNS says that there is no such name."""
    async with running(tmp_path, replicas=1) as rig:
        await rig.replicas[0].kill()
        rig.resolve([])
        await until_up(rig, 1)
        await _after_queries(rig, 3)
        await rig.replicas[0].start()
        rig.resolve(rig.replicas)
        await until_up(rig, 2)
        await _serves(rig, 1)


async def test_an_answer_of_256_addresses_is_read_whole(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        last = rig.replicas[0].address
        rig.names.records[REPLICAS_HOST] = [f"127.1.{n // 128}.{1 + n % 128}" for n in range(255)] + [last]
        await _after_queries(rig, 3)

        async def named() -> bool:
            metrics = await rig.metrics()
            return (
                sum(key.startswith("haproxy_server_max_sessions{") for key in metrics) >= 250
            )  # 3.0.0 loses two while it writes them

        await until(named, "the slots of 256 addresses")
        await _serves(rig, 1)
