"""The router's own process: when it is ready, what it needs, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.router.client import Client
from tests.router.replica import QUICK
from tests.router.rig import Rig, running, until


class _Service:
    """What clients connect to: the routers that still accept, as kube-proxy would choose among them."""

    def __init__(self, *rigs: Rig) -> None:
        self.rigs = list(rigs)
        self.failures: list[str] = []
        self.answered = 0
        self.done = False

    async def keep_asking(self) -> None:
        """A client that keeps its connection as long as its router does."""
        client: Client | None = None
        while not self.done:
            client = client if client and client.connected else self.rigs[-1].client()
            try:
                answer = await client.ask(body=QUICK)
            except ConnectionError as error:
                self.failures.append(repr(error))
                client = None
                continue
            if answer.status != 200 or not answer.complete:
                self.failures.append(str(answer))
            self.answered += 1
            await asyncio.sleep(0.01)


async def test_a_soft_stop_under_load_fails_no_request(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    async with running(tmp_path / "old", replicas=2) as old, running(tmp_path / "new", replicas=2) as new:
        service = _Service(old)
        for each in old.replicas:
            each.last_byte.clear()
        streams = [await old.stream() for _ in range(4)]
        clients = [asyncio.create_task(service.keep_asking()) for _ in range(50)]
        await until(lambda: service.answered > 200, "200 answers of the old router")
        # The pod's preStop sleep: new connections go elsewhere before the old router is told to end.
        service.rigs.append(new)
        assert old.process is not None
        old.process.send_signal(signal.SIGUSR1)
        reached = service.answered
        await until(lambda: service.answered > reached + 500, "500 more answers")
        service.done = True
        await asyncio.gather(*clients)
        assert service.failures == []
        assert old.process.returncode is None, "it waits for its streams"
        for each in old.replicas:
            each.last_byte.set()
        assert [(await each.answer()).complete for each in streams] == [True] * 4
        for stream in streams:
            stream.close()  # an idle client may stay for `timeout http-keep-alive`
        await asyncio.wait_for(old.process.wait(), 30)


async def test_a_soft_stop_leaves_an_idle_client_one_more_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        client = rig.client()
        assert (await client.ask()).status == 200
        assert rig.process is not None
        rig.process.send_signal(signal.SIGUSR1)

        async def refused() -> bool:
            try:
                await rig.ask()
            except ConnectionError:
                return True
            return False

        await until(refused, "new connections refused")
        answer = await client.ask()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await asyncio.wait_for(rig.process.wait(), 30)


async def test_a_hard_stop_ends_what_a_soft_stop_would_wait_for(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, hard_stop_seconds=2) as rig:
        client = await rig.stream_of(rig.replicas[0])
        assert rig.process is not None
        rig.process.send_signal(signal.SIGUSR1)
        assert not (await asyncio.wait_for(client.answer(), 30)).complete
        await asyncio.wait_for(rig.process.wait(), 30)


async def test_a_router_is_ready_when_it_can_serve_and_stays_ready_without_replicas(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, head=False) as rig:
        assert await rig.ready()
        await rig.replicas[0].kill()
        answer = await rig.ask("GET", "/health")
        while answer.status == 200:
            answer = await rig.ask("GET", "/health")
        await until(rig.ready, "ready, 10 s after its start at the latest")
        assert (await rig.ask()).error()["code"] == "no_replica"


@pytest.mark.parametrize("limit", [1024, 4096])
async def test_it_starts_within_a_small_limit_of_open_files(tmp_path: Path, limit: int) -> None:
    async with running(tmp_path, open_files=limit) as rig:
        assert (await rig.ask()).status == 200


async def test_it_does_not_start_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="SUNDOG_REPLICA_TOKEN is empty"):
        async with running(tmp_path, token=""):
            pass


async def test_it_stays_small(tmp_path: Path) -> None:
    """64 MiB is what its pod requests."""
    async with running(tmp_path, replicas=1, max_queue=256) as rig:
        rig.replicas[0].first_byte.clear()
        asked = [asyncio.create_task(rig.ask(body=b"x" * 60_000)) for _ in range(272)]
        await rig.queue(256)
        resident = rig.resident()
        rig.replicas[0].first_byte.set()
        await asyncio.gather(*asked)
        assert resident < 64
