"""The real vLLM, on a CPU, behind the guard: its routes, its streams, and what is said when it does not start."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.models import environment, model
from tests.serving.conftest import HEADERS, TOKEN, application_args, events, eventually, until
from tests.serving.ray_cluster import SERVING, command_of, descendants_of

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
START_SECONDS = 300  # 20 on a quiet machine
HELLO = [{"role": "user", "content": "hello there"}]
CANARY = "canary-5d20"

# float32: bfloat16 with a short first prompt dies by SIGILL on some CPUs.
SMALL = {
    "dtype": "float32",
    "enforce-eager": True,
    "kv-cache-memory-bytes": "64M",
    "max-model-len": 1024,
    "max_num_seqs": 32,
}
ON_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def vllm_environ(**more: str) -> dict[str, str]:
    """The environment of a process that runs vLLM, as a pod has it."""
    return {
        "PATH": f"{environment() / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": f"{SERVING}:{ROOT}",
        "HOME": "/tmp",
        "SUNDOG_REPLICA_TOKEN": TOKEN,
        **ON_CPU,
        **more,
    }


@dataclass
class Server:
    """A replica without Ray: `bare_server`."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str
    client: aiohttp.ClientSession

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    async def until_said(self, *words: str) -> str:
        def said() -> bool:
            assert self.process.poll() in {None, 0, 3}, self.text()[-4000:]
            return any(word in self.text() for word in words)

        await until(said, within_seconds=START_SECONDS)
        return self.text()

    async def health(self) -> str:
        """What a health check says now."""
        before = self.text().count("health: ")
        self.process.send_signal(signal.SIGUSR1)
        await until(lambda: self.text().count("health: ") > before, within_seconds=60)
        return self.text().rpartition("health: ")[2].splitlines()[0]

    async def post(self, route: str, **body: Any) -> tuple[int, Any]:
        async with self.client.post(f"{self.url}{route}", json={"model": "tiny", **body}, headers=HEADERS) as response:
            return response.status, await response.json()

    async def get(self, route: str, headers: dict[str, str] = HEADERS) -> tuple[int, str]:
        async with self.client.get(f"{self.url}{route}", headers=headers) as response:
            return response.status, await response.text()

    async def configure(self, *adapters: dict[str, Any]) -> None:
        """Say which adapters there are to be, as Serve does by the ``user_config``."""
        assert self.process.stdin
        before = self.text().count("configured")
        self.process.stdin.write(json.dumps({"adapters": adapters}).encode() + b"\n")
        self.process.stdin.flush()
        await until(lambda: self.text().count("configured") > before, within_seconds=60)

    def children(self, title: str) -> list[int]:
        return [pid for pid in descendants_of(self.process.pid) if title in command_of(pid)]


@asynccontextmanager
async def running(
    folder: Path, model_path: Path, engine_args: dict[str, Any], *, lora: dict[str, int] | None = None, **environ: str
) -> AsyncIterator[Server]:
    """Start vLLM; it may still fail to start."""
    port = _free_port()
    args = application_args("vllm", {**SMALL, **engine_args}, path=str(model_path)) | {"lora": lora}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220  its output goes to a file
            [environment() / "bin" / "python", "-m", "tests.serving.bare_server", json.dumps(args), str(port)],
            env=vllm_environ(**environ),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
        )
    async with aiohttp.ClientSession() as client:
        try:
            yield Server(process, log, f"http://127.0.0.1:{port}", client)
        finally:
            started = descendants_of(process.pid)
            process.terminate()
            assert process.stdin
            process.stdin.close()
            try:
                await asyncio.to_thread(process.wait, 60)
            except subprocess.TimeoutExpired:
                process.kill()
            for pid in started:
                if "python" in command_of(pid) or "VLLM::" in command_of(pid):
                    os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chat(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("chat"), model("tiny"), {}) as server:
        said = await server.until_said("serving", "EngineStartError")
        assert "EngineStartError" not in said
        yield server


async def test_chat_completions_and_models_are_vllms_own(chat: Server) -> None:
    status, answer = await chat.post("/v1/chat/completions", messages=HELLO, max_tokens=5, temperature=0)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["message"]["role"] == "assistant"
    status, answer = await chat.post("/v1/completions", prompt="hello", max_tokens=3, ignore_eos=True)
    assert (status, answer["choices"][0]["finish_reason"]) == (200, "length")
    status, text = await chat.get("/v1/models")
    assert [entry["id"] for entry in json.loads(text)["data"]] == ["tiny"]
    status, answer = await chat.post("/tokenize", prompt="hello world")
    assert answer["count"] > 0


async def test_a_stream_has_every_token_the_usage_and_an_end(chat: Server) -> None:
    body = {
        "model": "tiny",
        "messages": HELLO,
        "max_tokens": 30,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with chat.client.post(f"{chat.url}/v1/chat/completions", json=body, headers=HEADERS) as response:
        *chunks, usage, done = await events(response)
    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] == 30
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_vllms_metrics_and_our_load_agree(chat: Server) -> None:
    _, before = await chat.get("/sundog/load")
    await chat.post("/v1/completions", prompt="hello", max_tokens=7, ignore_eos=True)
    _, after = await chat.get("/sundog/load")
    assert json.loads(after)["generation_tokens_total"] - json.loads(before)["generation_tokens_total"] == 7
    status, metrics = await chat.get("/metrics")
    assert status == 200
    (line,) = (line for line in metrics.splitlines() if line.startswith("vllm:generation_tokens_total"))
    assert float(line.split()[-1]) == json.loads(after)["generation_tokens_total"]
    for name in ("vllm:num_requests_running", "vllm:kv_cache_usage_perc", "vllm:time_to_first_token_seconds_bucket"):
        assert f"\n{name}" in metrics


async def test_a_request_is_counted_while_it_runs_and_no_longer_when_its_client_has_left(chat: Server) -> None:
    async def load() -> dict[str, Any]:
        document: dict[str, Any] = json.loads((await chat.get("/sundog/load"))[1])
        return document

    body = {"model": "tiny", "prompt": "hello", "max_tokens": 1000, "ignore_eos": True, "stream": True}
    async with chat.client.post(f"{chat.url}/v1/completions", json=body, headers=HEADERS) as response:
        await response.content.readline()
        assert (await load())["running"] == 1
        response.close()
    idle = await eventually(load, lambda now: now["running"] + now["waiting"] == 0, within_seconds=5)
    assert idle["kv_cache_utilization"] == 0


async def test_the_engine_is_told_as_it_is(chat: Server) -> None:
    engine = json.loads((await chat.get("/sundog/engine"))[1])
    assert engine["engine"] == "vllm"
    assert engine["version"].startswith("0.32.0")
    assert engine["device"] == "cpu"
    assert engine["ray_version"] == "2.60.0"
    assert engine["tasks"] == ["generate"]


async def test_no_route_answers_without_the_token(chat: Server) -> None:
    for route in ("/v1/models", "/metrics", "/health", "/version", "/docs", "/sundog/load"):
        assert (await chat.get(route, headers={}))[0] == 403


async def test_control_routes_are_closed(chat: Server) -> None:
    for route in ("/sleep", "/docs", "/openapi.json", "/scale_elastic_ep", "/abort_requests", "/is_scaling_elastic_ep"):
        assert (await chat.get(route))[0] == 404
        assert (await chat.post(route))[0] == 404


async def test_bad_requests_are_bad_requests(chat: Server) -> None:
    for body in (
        {"prompt": "a", "n": 16384},
        {"prompt": "a", "max_tokens": -1},
        {"prompt": ["a", 1]},
        {"prompt": "a" * 20_000},
        {"prompt": "a", "temperature": "hot"},
    ):
        status, answer = await chat.post("/v1/completions", **body)
        assert status == 400, answer


async def test_the_log_tells_requests_and_never_prompts(chat: Server) -> None:
    await chat.post("/v1/completions", prompt=f"{CANARY} hello", max_tokens=1)
    await chat.post("/v1/chat/completions", messages=[{"role": "user", "content": CANARY}], max_tokens=1, n="x")
    await until(lambda: "route=/v1/chat/completions status=400" in chat.text())
    assert "route=/v1/completions status=200 outcome=done" in chat.text()
    assert CANARY not in chat.text()
    assert TOKEN not in chat.text()


async def test_an_embedding_model_embeds(tmp_path: Path) -> None:
    async with running(tmp_path, model("tiny-embedding"), {}) as server:
        said = await server.until_said("serving", "EngineStartError:")
        assert "EngineStartError" not in said  # it became ready by an embedding
        status, answer = await server.post("/v1/embeddings", input=["hello", "world"])
        assert status == 200
        assert [len(item["embedding"]) for item in answer["data"]] == [64, 64]
        assert json.loads((await server.get("/sundog/load"))[1])["steps_total"] > 0


async def test_a_real_model_knows_the_capital_of_france(tmp_path: Path) -> None:
    async with running(tmp_path, model("smollm2"), {"kv-cache-memory-bytes": "256M"}) as server:
        await server.until_said("serving", "EngineStartError:")
        question = [{"role": "user", "content": "What is the capital of France?"}]
        status, answer = await server.post("/v1/chat/completions", messages=question, max_tokens=24, temperature=0)
        assert status == 200
        assert "Paris" in answer["choices"][0]["message"]["content"]


async def test_an_engine_whose_process_was_killed_is_unhealthy_and_stops_whole(tmp_path: Path) -> None:
    async with running(tmp_path, model("tiny"), {}) as server:
        await server.until_said("serving", "EngineStartError:")
        assert await server.health() == "good"
        started = server.children("")
        (core,) = server.children("VLLM::EngineCore")
        os.kill(core, signal.SIGKILL)
        said = await eventually(server.health, lambda said: said != "good")
        assert said.startswith("EngineDeadError: a process of the engine")
        for streamed in (False, True):
            status, _ = await server.post("/v1/completions", prompt="hello", max_tokens=1, stream=streamed)
            assert status == 425, "given back, so that another replica answers"
        server.process.terminate()
        await asyncio.to_thread(server.process.wait, 60)
        await until(lambda: not any("VLLM::" in command_of(pid) for pid in started), within_seconds=30)


async def test_a_wedged_engine_is_unhealthy_although_it_lives(tmp_path: Path) -> None:
    async with running(tmp_path, model("tiny"), {}, SUNDOG_STALL_SECONDS="3") as server:
        await server.until_said("serving", "EngineStartError:")
        frozen = server.children("VLLM::")
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        request = asyncio.create_task(server.post("/v1/completions", prompt="hello", max_tokens=5))
        try:
            said = await eventually(server.health, lambda said: said != "good", within_seconds=30)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert "the engine has made no step for" in said
        await request
        assert await server.health() == "good"


def broken(change: Callable[[Path], None]) -> Callable[[Path], Path]:
    """A copy of the tiny model with something wrong."""

    def make(folder: Path) -> Path:
        copy = folder / "model"
        shutil.copytree(model("tiny"), copy)
        change(copy)
        return copy

    return make


def with_config(old: str, new: str) -> Callable[[Path], Path]:
    def change(folder: Path) -> None:
        config = folder / "config.json"
        assert old in config.read_text()
        config.write_text(config.read_text().replace(old, new))

    return broken(change)


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("make", "engine_args", "reason", "sentence"),
    [
        pytest.param(
            broken(shutil.rmtree), {}, "ModelNotFound", "does not exist; {folder} holds log", id="no-such-folder"
        ),
        pytest.param(broken(truncate), {}, "ModelInvalid", "the copy broke off", id="broken-off-copy"),
        pytest.param(
            with_config('"LlamaForCausalLM"', '"NobodyForCausalLM"'),
            {},
            "ModelInvalid",
            "Model architectures ['NobodyForCausalLM'] are not supported",
            id="unknown-architecture",
        ),
        pytest.param(
            with_config('"intermediate_size": 128', '"intermediate_size": 256'),
            {},
            "ModelInvalid",
            "exceeds dimension size (128); the weights do not fit the model's config.json",
            id="weights-of-another-model",
        ),
        pytest.param(
            broken(lambda _: None),
            {"max-modle-len": 5},
            "EngineArgumentInvalid",
            "spec.engine.args.max-modle-len: vLLM 0.32.0+cpu has no such argument; did you mean max-model-len?",
            id="unknown-argument",
        ),
        pytest.param(
            broken(lambda _: None),
            {"max-num-seqs": "many"},
            "EngineArgumentInvalid",
            "spec.engine.args.max-num-seqs: invalid int value: 'many'",
            id="wrong-value",
        ),
        pytest.param(
            broken(lambda _: None),
            {"api-key": "secret"},
            "EngineArgumentInvalid",
            "spec.engine.args.api-key is set by Sundog: a key is the business of a gateway before the Service",
            id="reserved-argument",
        ),
        pytest.param(
            broken(lambda _: None),
            {"max-model-len": 999_999},
            "EngineArgumentInvalid",
            "User-specified max_model_len (999999) is greater than",
            id="argument-against-the-model",
        ),
        pytest.param(
            broken(lambda _: None),
            {"kv-cache-memory-bytes": "900G"},
            "OutOfMemory",
            "is less than requested memory for kv (900.0 GiB)",
            id="out-of-memory",
        ),
    ],
)
async def test_a_failed_start_says_why(
    tmp_path: Path, make: Callable[[Path], Path], engine_args: dict[str, Any], reason: str, sentence: str
) -> None:
    path = await asyncio.to_thread(make, tmp_path)
    async with running(tmp_path, path, engine_args) as server:
        said = await server.until_said("serving\n", "\nEngineStartError: ")
        told = [line for line in said.splitlines() if line.startswith("EngineStartError: ")]
        assert told, said[-3000:]
        assert told[0].startswith(f"EngineStartError: {reason}: ")
        assert sentence.format(folder=tmp_path) in told[0]
        assert await asyncio.to_thread(server.process.wait, 60) == 3


async def test_an_engine_killed_while_it_loads_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, model("tiny"), {}) as server:
        await until(lambda: bool(server.children("VLLM::EngineCore")), within_seconds=START_SECONDS)
        os.kill(server.children("VLLM::EngineCore")[0], signal.SIGKILL)
        said = await server.until_said("\nEngineStartError: ")
        assert "EngineStartError: OutOfMemory: a process of the engine was ended by signal 9" in said
