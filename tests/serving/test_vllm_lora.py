"""LoRA adapters in the real vLLM on a CPU: no restart, no harm to others, and vLLM's own words for what it refuses."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.models import model
from tests.serving.conftest import HEADERS, LORA, events, eventually
from tests.serving.test_vllm import Server, running

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]


def adapter(name: str, path: Path) -> dict[str, Any]:
    """As the operator writes one that lies in a claim."""
    return {"name": name, "uri": f"pvc://models/{path.name}", "path": str(path), "revision": None}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("lora")
    async with running(folder, model("tiny"), {}, lora=LORA) as started:
        said = await started.until_said("serving\n", "\nEngineStartError: ")
        assert "\nEngineStartError: " not in said, said[-4000:]
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def server(shared: Server) -> Server:
    """The engine that all tests share, without an adapter."""
    await shared.configure()
    return shared


async def report(server: Server) -> dict[str, Any]:
    status, text = await server.get("/sundog/adapters")
    assert status == 200
    return {entry["name"]: entry for entry in json.loads(text)["adapters"]}


async def states(server: Server) -> dict[str, str]:
    return {name: entry["state"] for name, entry in (await report(server)).items()}


async def said_by(server: Server, name: str) -> tuple[int, str]:
    status, answer = await server.post("/v1/completions", model=name, prompt="hello", max_tokens=12, temperature=0)
    return status, answer["choices"][0]["text"] if status == 200 else answer["error"]["message"]


def variant(folder: Path, name: str, **config: Any) -> Path:
    """A copy of the adapter with another configuration."""
    copy = folder / name
    shutil.copytree(model("tiny-adapter"), copy)
    file = copy / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return copy


async def test_an_adapter_comes_answers_and_goes_without_a_restart(server: Server) -> None:
    cores = server.children("VLLM::EngineCore")
    base = await said_by(server, "tiny")
    assert (await said_by(server, "french"))[0] == 404
    await server.configure(adapter("french", model("tiny-adapter")))
    await eventually(lambda: states(server), lambda now: now == {"french": "loaded"})
    status, text = await said_by(server, "french")
    assert status == 200
    assert text != base[1], "it answers with the adapter's weights"
    assert await said_by(server, "tiny") == base, "and the model without them"
    _, listed = await server.get("/v1/models")
    assert [entry["id"] for entry in json.loads(listed)["data"]] == ["tiny", "french"]
    await server.configure()
    assert (await said_by(server, "french"))[0] == 404
    assert await said_by(server, "tiny") == base
    assert server.children("VLLM::EngineCore") == cores


async def test_what_vllm_refuses_is_told_in_its_words_and_harms_no_other(server: Server, tmp_path: Path) -> None:
    good = adapter("french", model("tiny-adapter"))
    await server.configure(
        adapter("large", variant(tmp_path, "large", r=64)),
        adapter("dora", variant(tmp_path, "dora", use_dora=True)),
    )
    await eventually(lambda: states(server), lambda now: set(now.values()) == {"failed"})
    told = await report(server)
    assert told["large"]["message"] == "LoRA rank 64 is greater than max_lora_rank 8."
    assert told["dora"]["message"] == "vLLM does not yet support DoRA."
    await server.configure(good, adapter("nowhere", tmp_path / "nowhere"))
    await eventually(lambda: states(server), lambda now: now == {"french": "loaded", "nowhere": "failed"})
    message = (await report(server))["nowhere"]["message"]
    assert message.startswith(f"{tmp_path}/nowhere does not exist; ")
    assert message.endswith("correct the path in spec.model.lora.adapters[].uri")
    assert (await said_by(server, "french"))[0] == (await said_by(server, "tiny"))[0] == 200
    assert await server.health() == "good"


async def test_weights_of_another_shape_harm_no_other(server: Server, tmp_path: Path) -> None:
    """vLLM has such an adapter half loaded when it notices."""
    narrow = tmp_path / "narrow"
    shutil.copytree(model("tiny-adapter"), narrow)
    file = narrow / "adapter_model.safetensors"
    header = int.from_bytes(file.read_bytes()[:8], "little")
    tensors = json.loads(file.read_bytes()[8 : 8 + header])
    for tensor in tensors.values():
        tensor["shape"] = [side * 2 if side == 64 else side // 2 for side in tensor["shape"]]
    text = json.dumps(tensors).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + file.read_bytes()[8 + header :])
    await server.configure(adapter("narrow", narrow), adapter("french", model("tiny-adapter")))
    await eventually(lambda: states(server), lambda now: now == {"narrow": "failed", "french": "loaded"})
    assert (await report(server))["narrow"]["message"]
    assert (await said_by(server, "french"))[0] == 200
    assert (await said_by(server, "narrow"))[0] == 404
    assert await server.health() == "good"


async def test_a_stream_ends_whole_although_its_adapter_was_exchanged_and_its_files_are_gone(
    server: Server, tmp_path: Path
) -> None:
    """What is loaded is never read from its files again: a step that failed would end the engine."""
    first, second = variant(tmp_path, "first"), variant(tmp_path, "second", lora_alpha=1)
    await server.configure(adapter("french", first))
    await eventually(lambda: states(server), lambda now: now == {"french": "loaded"})
    strong = await said_by(server, "french")
    body = {"model": "french", "prompt": "hello", "max_tokens": 900, "ignore_eos": True, "stream": True}
    async with server.client.post(f"{server.url}/v1/completions", json=body, headers=HEADERS) as response:
        await response.content.readline()
        await server.configure(adapter("french", second))
        await eventually(lambda: states(server), lambda now: now == {"french": "loaded"})
        shutil.rmtree(first)
        shutil.rmtree(second)
        weak = await said_by(server, "french")
        assert weak[0] == 200
        assert weak != strong, "requests that come now have the new one, and nothing cached of the old one"
        await server.configure()
        *chunks, done = await events(response)
    assert done == "[DONE]"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert await server.health() == "good"


async def test_places_in_the_engine_are_given_back(server: Server, tmp_path: Path) -> None:
    """More adapters one after another than the engine has places."""
    for number in range(5):
        here = variant(tmp_path, f"number-{number}")
        await server.configure(adapter(f"number-{number}", here))
        await eventually(lambda: states(server), lambda now: set(now.values()) == {"loaded"})
    assert (await said_by(server, "number-4"))[0] == 200
    assert (await said_by(server, "number-0"))[0] == 404
