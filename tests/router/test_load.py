"""What the router says of its load, which autoscaling counts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from sundog_operator.core.names import LOAD_ROUTE
from tests.router.client import Client
from tests.router.rig import Rig, running, until


async def load(rig: Rig) -> dict[str, int]:
    client = Client("127.0.0.1", rig.settings.metrics_port)
    try:
        answer = await client.ask("GET", LOAD_ROUTE)
    finally:
        client.close()
    assert answer.status == 200
    told: dict[str, int] = json.loads(answer.body)
    return told


async def until_load(rig: Rig, **wanted: int) -> None:
    async def reached() -> bool:
        told = await load(rig)
        return {key: told[key] for key in wanted} == wanted

    await until(reached, f"a load of {wanted}")


async def test_every_request_counts_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=2, max_ongoing_per_replica=2) as rig:
        assert (await load(rig)).keys() == {"ongoing", "queued", "held", "idle_seconds", "servers"}
        await until_load(rig, ongoing=0, queued=0, held=0)
        for each in rig.replicas:
            each.first_byte.clear()
        asked = [asyncio.create_task(rig.ask()) for _ in range(7)]
        await until_load(rig, ongoing=7, queued=3, held=0)
        for each in rig.replicas:
            each.last_byte.clear()
            each.first_byte.set()
        # Four streams have begun, none has ended: the others still wait.
        await until_load(rig, ongoing=7, queued=3, held=0)
        for each in rig.replicas:
            each.last_byte.set()
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        await until_load(rig, ongoing=0, queued=0, held=0)


async def test_what_the_head_holds_is_held(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=0) as rig:
        rig.head.first_byte.clear()
        asked = [asyncio.create_task(rig.ask()) for _ in range(3)]
        await until_load(rig, ongoing=3, queued=0, held=3)
        rig.head.first_byte.set()
        await asyncio.gather(*asked)
        await until_load(rig, ongoing=0, queued=0, held=0)


async def test_a_client_that_leaves_is_counted_no_more(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, max_ongoing_per_replica=1) as rig:
        rig.replicas[0].first_byte.clear()
        asked = [asyncio.create_task(rig.ask()) for _ in range(3)]
        await until_load(rig, ongoing=3, queued=2, held=0)
        for task in asked:
            task.cancel()
        await until_load(rig, ongoing=0, queued=0, held=0)


async def test_a_client_that_leaves_the_head_frees_its_place(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=0, max_queue=3) as rig:
        rig.head.first_byte.clear()
        leaver, *others = [asyncio.create_task(rig.ask()) for _ in range(3)]
        await until_load(rig, ongoing=3, queued=0, held=3)
        assert (await rig.ask()).status == 429
        leaver.cancel()
        await until_load(rig, ongoing=2, queued=0, held=2)
        await until(lambda: rig.head.left == 1, "the head saw the client leave")
        next_one = asyncio.create_task(rig.ask())
        await until_load(rig, ongoing=3, queued=0, held=3)
        rig.head.first_byte.set()
        assert {answer.status for answer in await asyncio.gather(*others, next_one)} == {200}
        await until_load(rig, ongoing=0, queued=0, held=0)


async def test_how_long_there_was_no_request_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:

        async def idle() -> bool:
            return (await load(rig))["idle_seconds"] >= 2

        await until(idle, "two idle seconds")
        rig.replicas[0].first_byte.clear()
        asked = asyncio.create_task(rig.ask())
        await until_load(rig, ongoing=1, idle_seconds=0)
        began = asyncio.get_running_loop().time()

        async def asked_for_a_while() -> bool:
            assert (await load(rig))["idle_seconds"] <= 1, "a request that takes long is no idleness"
            return asyncio.get_running_loop().time() > began + 3

        await until(asked_for_a_while, "three busy seconds")
        rig.replicas[0].first_byte.set()
        await asked
        await until(idle, "two idle seconds after it")


async def test_where_a_request_can_be_sent_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=2) as rig:
        await until_load(rig, servers=2)
        for each in rig.replicas:
            each.health = 503
        await until_load(rig, servers=1)  # the head, which holds requests
        rig.head.health = 503
        await until_load(rig, servers=0)
