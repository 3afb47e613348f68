"""LoRA adapters of a running engine come and go without harm to anybody else's requests; here with the fake engine."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sundog_serving import adapters as module
from sundog_serving import fake
from sundog_serving.adapters import Adapters
from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError
from sundog_serving.fake import FakeLoRA
from sundog_serving.runtime import Runtime
from sundog_serving.settings import Model
from tests.serving.conftest import HEADERS, LORA, TOKEN, application_args, events, eventually, served, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUNDOG_REPLICA_TOKEN", TOKEN)
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)


def adapter(name: str, uri: str = "") -> dict[str, Any]:
    """As the operator writes one."""
    return {"name": name, "uri": uri or f"hf://acme/{name}", "path": None, "revision": None}


class Replica:
    """A whole replica with the fake engine, but for Ray."""

    def __init__(self, runtime: Runtime, client: aiohttp.ClientSession) -> None:
        self.runtime = runtime
        self.client = client

    async def want(self, *adapters: dict[str, Any]) -> None:
        await self.runtime.reconfigure({"adapters": list(adapters)})

    async def report(self) -> list[dict[str, Any]]:
        async with self.client.get("/sundog/adapters") as response:
            assert response.status == 200
            return list((await response.json())["adapters"])

    async def states(self) -> dict[str, str]:
        return {entry["name"]: entry["state"] for entry in await self.report()}

    async def models(self) -> list[str]:
        async with self.client.get("/v1/models") as response:
            return [entry["id"] for entry in (await response.json())["data"]]

    async def ask(self, name: str) -> tuple[int, Any]:
        async with self.client.post("/v1/completions", json={"model": name, "prompt": "hi", "max_tokens": 1}) as answer:
            return answer.status, await answer.json()


@pytest_asyncio.fixture
async def replica() -> AsyncIterator[Replica]:
    runtime = await Runtime.start(application_args("fake", {"tokens-per-second": 100}) | {"lora": LORA})
    async with served(runtime.app) as url, aiohttp.ClientSession(url, headers=HEADERS) as client:
        yield Replica(runtime, client)
        await runtime.stop()


async def test_a_new_replica_has_its_adapters_before_it_goes_on(replica: Replica) -> None:
    await replica.want(adapter("french"), adapter("legal"))
    assert await replica.states() == {"french": "loaded", "legal": "loaded"}
    assert await replica.models() == ["tiny", "french", "legal"]
    status, answer = await replica.ask("french")
    assert (status, answer["model"]) == (200, "french")
    assert (await replica.ask("tiny"))[1]["model"] == "tiny"


async def test_adapters_are_added_and_taken_out_while_it_runs(replica: Replica) -> None:
    await replica.want()
    assert (await replica.ask("french"))[0] == 404
    await replica.want(adapter("french"))
    await eventually(replica.states, lambda now: now == {"french": "loaded"})
    await replica.want(adapter("legal"))
    assert (await replica.ask("french"))[0] == 404, "it is out at once"
    await eventually(replica.states, lambda now: now == {"legal": "loaded"})
    assert await replica.models() == ["tiny", "legal"]


async def test_one_that_fails_is_told_and_harms_no_other(replica: Replica) -> None:
    await replica.want(adapter("broken"), adapter("french"))
    told = {entry["name"]: entry for entry in await replica.report()}
    assert told["broken"]["state"] == "failed"
    assert "takes no adapter whose uri has 'broken' in it" in told["broken"]["message"]
    assert told["french"]["state"] == "loaded"
    assert (await replica.ask("broken"))[0] == 404
    assert (await replica.ask("french"))[0] == 200
    await replica.want(adapter("broken", "hf://acme/mended"), adapter("french"))
    await eventually(replica.states, lambda now: now == {"broken": "loaded", "french": "loaded"})


async def test_a_change_that_fails_leaves_the_one_before_it_answering(replica: Replica) -> None:
    await replica.want(adapter("french"))
    await replica.want(adapter("french", "hf://acme/broken"))
    (told,) = await eventually(replica.report, lambda now: now[0]["state"] == "failed")
    assert told["message"].endswith("; the one before it still answers")
    assert (await replica.ask("french"))[0] == 200


async def test_a_stream_keeps_its_adapter_although_it_is_taken_out(replica: Replica) -> None:
    await replica.want(adapter("french"))
    lora = _lora(replica)
    (handle,) = lora.names.values()
    body = {"model": "french", "prompt": "hi", "max_tokens": 60, "stream": True}
    async with replica.client.post("/v1/completions", json=body) as response:
        await response.content.readline()
        await replica.want()
        assert (await replica.ask("french"))[0] == 404
        assert lora.requests(handle) == 1
        *chunks, done = await events(response)
    assert done == "[DONE]"
    assert {chunk["model"] for chunk in chunks} == {"french"}
    await until(lambda: handle not in lora.in_use)


async def test_a_change_waits_for_a_place_and_for_nobody_elses_stream(replica: Replica) -> None:
    """Two adapters and one place more: the second change at once has to wait until the first has drained."""
    await replica.want(adapter("french"), adapter("legal"))
    body = {"model": "french", "prompt": "hi", "max_tokens": 100, "stream": True}
    async with replica.client.post("/v1/completions", json=body) as response:
        await response.content.readline()
        await replica.want(adapter("french", "hf://acme/f2"), adapter("legal", "hf://acme/l2"))
        states = await eventually(replica.states, lambda now: now["french"] == "loaded")
        assert states["legal"] == "loading"
        assert (await replica.ask("legal"))[0] == 200, "the one before it answers"
        assert (await events(response))[-1] == "[DONE]"
    await eventually(replica.states, lambda now: now == {"french": "loaded", "legal": "loaded"})
    await until(lambda: len(_lora(replica).in_use) <= 1)


def _lora(replica: Replica) -> FakeLoRA:
    engine = replica.runtime._engine  # noqa: SLF001  a real client cannot see what an engine holds
    assert isinstance(engine, fake.FakeEngine)
    assert engine.lora
    return engine.lora


async def test_the_same_list_again_changes_nothing(replica: Replica) -> None:
    await replica.want(adapter("french"))
    before = dict(_lora(replica).names)
    await asyncio.gather(*(replica.want(adapter("french")) for _ in range(5)))
    assert _lora(replica).names == before


async def test_the_report_is_in_the_order_of_the_list(replica: Replica) -> None:
    await replica.want(adapter("french"), adapter("legal"))
    await replica.want(adapter("legal"), adapter("french"))
    assert list(await replica.states()) == ["legal", "french"]


async def test_a_list_of_another_release_fails_no_replica(replica: Replica) -> None:
    """Serve stops a replica whose `reconfigure` raises."""
    await replica.want(adapter("french"))
    await replica.runtime.reconfigure({"adapters": [{"nam": "x"}]})
    await replica.runtime.reconfigure({"adapters": 5})
    assert await replica.states() == {"french": "loaded"}


async def test_no_route_tells_adapters_where_there_can_be_none() -> None:
    runtime = await Runtime.start(application_args("fake"))
    async with served(runtime.app) as url, aiohttp.request("GET", f"{url}/sundog/adapters", headers=HEADERS) as answer:
        assert answer.status == 404
    await runtime.reconfigure({"adapters": [adapter("french")]})
    await runtime.stop()


class Hub(FakeLoRA):
    """Adapters whose files come only later."""

    def __init__(self) -> None:
        super().__init__(slots=2)
        self.there = asyncio.Event()
        self.asked = 0

    async def fetch(self, adapter: Model) -> Path:
        self.asked += 1
        if not self.there.is_set():
            raise EngineStartError(Reason.MODEL_DOWNLOAD_FAILED, "the hub is away")
        return await super().fetch(adapter)


async def test_files_that_come_later_are_taken_without_another_word() -> None:
    hub = Hub()
    kept = Adapters(hub)
    wanted = Model.from_args(adapter("french"))
    await kept.want([wanted])
    assert kept.report()["adapters"][0]["message"] == "the hub is away"
    hub.there.set()
    await until(lambda: kept.report()["adapters"][0]["state"] == "loaded")
    await kept.stop()


async def test_a_list_is_waited_for_at_the_start_and_never_again() -> None:
    """A replica that runs must not hold Serve up, nor one that starts answer before it has its adapters."""

    class Slow(FakeLoRA):
        async def fetch(self, adapter: Model) -> Path:
            await asyncio.sleep(0.2)
            return await super().fetch(adapter)

    kept = Adapters(Slow(slots=3))
    french, legal = (Model.from_args(adapter(name)) for name in ("french", "legal"))
    await kept.want([french])
    assert [entry["state"] for entry in kept.report()["adapters"]] == ["loaded"]
    await kept.want([french, legal])
    assert [entry["state"] for entry in kept.report()["adapters"]] == ["loaded", "loading"]
    await kept.stop()


async def test_a_hub_that_hangs_keeps_no_replica_from_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.1)

    class Hanging(FakeLoRA):
        async def fetch(self, _: Model) -> Path:
            await asyncio.Event().wait()
            raise AssertionError

    kept = Adapters(Hanging(slots=2))
    async with asyncio.timeout(5):
        await kept.want([Model.from_args(adapter("french"))])
    assert kept.report()["adapters"][0]["state"] == "loading"
    await kept.stop()


async def test_one_that_is_not_wanted_any_more_when_its_files_come_is_not_loaded() -> None:
    hub = Hub()
    kept = Adapters(hub)
    wanted = Model.from_args(adapter("french"))
    await kept.want([wanted])
    await kept.want([replace(wanted, uri="hf://acme/other")])
    await kept.want([])
    hub.there.set()
    asked = hub.asked
    await asyncio.sleep(3 * module.RETRY_SECONDS)  # what must not happen cannot be waited for
    assert (hub.names, hub.asked) == ({}, asked)
