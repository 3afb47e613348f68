"""The client of the Ray heads, against answers that real heads gave, and against heads that mean no good."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sundog_operator.core.observed import HeadUnreachable, Replica, ServeState
from sundog_operator.ray import client as ray_client
from sundog_operator.ray.client import Head, HeadClient, HeadError, read_state

RECORDED = Path(__file__).parents[2] / "serving" / "recorded"
TOKEN = "the-token-of-this-head"
HEAD = Head(namespace="prod", service="qwen3-1a2b3c4d-head", token=TOKEN)


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


class Double:
    """A head's REST API over real HTTP."""

    def __init__(self) -> None:
        self.answer = web.Response(text=json.dumps(recorded("running")))
        self.requests: list[tuple[str, str, Any]] = []
        self.authorization: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.authorization.append(request.headers.get("Authorization", ""))
        body = await request.text()
        self.requests.append((request.method, request.path, json.loads(body) if body else None))
        return self.answer


@pytest.fixture
async def double() -> Double:
    return Double()


@pytest.fixture
async def heads(double: Double) -> AsyncIterator[HeadClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", double.handle)
    async with TestServer(app) as server:
        base = str(server.make_url("")).rstrip("/")
        template = base + "/{namespace}/{service}.{cluster_domain}/"
        async with HeadClient(url_template=template, cluster_domain="cluster.local") as client:
            yield client


@pytest.mark.parametrize(
    ("name", "status", "target", "replicas"),
    [
        ("starting", "DEPLOYING", 1, [("STARTING", "127.0.0.3")]),
        ("running", "RUNNING", 1, [("RUNNING", "127.0.0.3")]),
        ("start-failed-first-try", "DEPLOYING", 1, [("STARTING", None)]),
        ("start-failed-three-times", "DEPLOY_FAILED", 1, []),
        ("draining", "RUNNING", 0, [("STOPPING", "127.0.0.3")]),
        ("zero", "RUNNING", 0, []),
    ],
)
def test_real_answers_are_read(name: str, status: str, target: int, replicas: list[tuple[str, str | None]]) -> None:
    state = read_state(recorded(name))
    assert state.application_status == status
    assert state.target_replicas == target
    assert [(replica.state, replica.node_ip) for replica in state.replicas] == replicas
    assert state.deployed_config
    assert state.deployed_config["name"] == "llm"


def test_the_cause_of_a_failed_start_is_in_the_message_and_has_no_colours() -> None:
    message = read_state(recorded("start-failed-three-times")).message
    assert "EngineStartError: EngineStartFailed: the fake engine was told to fail" in message
    assert "\x1b" not in message


def test_a_head_without_an_application_has_none() -> None:
    assert read_state({"applications": {}}) == ServeState(application_status=None)


def test_values_of_other_types_are_taken_for_missing() -> None:
    application = {
        "status": 7,
        "message": ["x"],
        "deployments": {"engine": {"target_num_replicas": True, "replicas": {}}},
    }
    assert read_state({"applications": {"llm": application}}) == ServeState(application_status=None)
    application = {"status": "RUNNING", "deployments": {"engine": {"replicas": [1, {"state": "RUNNING"}]}}}
    state = read_state({"applications": {"llm": application}})
    assert state.replicas == (Replica(replica_id="", state="RUNNING", node_ip=None),)


@pytest.mark.parametrize("answer", [None, [], {}, {"applications": None}, "applications"])
def test_an_answer_that_is_not_serves_is_told(answer: Any) -> None:
    with pytest.raises(HeadError, match="not as Ray Serve does"):
        read_state(answer)


async def test_each_request_goes_where_the_template_says_with_the_token(heads: HeadClient, double: Double) -> None:
    state = await heads.state(HEAD)
    assert isinstance(state, ServeState)
    double.answer = web.Response(text="")  # as Ray answers a PUT
    await heads.put(HEAD, {"applications": []})
    double.answer = web.json_response({"message": "done"})
    await heads.scale(HEAD, 3)
    base = "/prod/qwen3-1a2b3c4d-head.cluster.local"
    assert double.requests == [
        ("GET", f"{base}/api/serve/applications/", None),
        ("PUT", f"{base}/api/serve/applications/", {"applications": []}),
        ("POST", f"{base}/api/v1/applications/llm/deployments/engine/scale", {"target_num_replicas": 3}),
    ]
    assert double.authorization == [f"Bearer {TOKEN}"] * 3


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_has_a_sentence_of_its_own(heads: HeadClient, double: Double, status: int) -> None:
    double.answer = web.Response(status=status, text="Unauthorized")
    answer = await heads.state(HEAD)
    assert isinstance(answer, HeadUnreachable)
    assert "refused the operator's token" in answer.reason
    assert TOKEN not in answer.reason


async def test_what_ray_says_to_a_refused_config_is_told(heads: HeadClient, double: Double) -> None:
    double.answer = web.Response(status=400, text="num_replicas must be\n positive")
    with pytest.raises(HeadError, match=r"HTTP 400\): num_replicas must be positive"):
        await heads.put(HEAD, {})


async def test_a_redirect_is_not_followed(heads: HeadClient, double: Double) -> None:
    double.answer = web.Response(status=307, headers={"Location": "/elsewhere"})
    assert isinstance(await heads.state(HEAD), HeadUnreachable)
    assert len(double.requests) == 1


async def test_an_endless_answer_ends(heads: HeadClient, double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_client, "ANSWER_BYTES", 2**20)
    double.answer = web.Response(body=b"x" * (2**20 + 1))
    answer = await heads.state(HEAD)
    assert isinstance(answer, HeadUnreachable)
    assert "more than" in answer.reason


@pytest.mark.parametrize("text", ["<html>", "{", "[" * 100_000])
async def test_what_is_not_json_is_told(heads: HeadClient, double: Double, text: str) -> None:
    double.answer = web.Response(text=text)
    answer = await heads.state(HEAD)
    assert isinstance(answer, HeadUnreachable)
    assert "something else than JSON" in answer.reason


async def test_a_head_that_is_away_is_told() -> None:
    async with HeadClient(url_template="http://127.0.0.1:1", cluster_domain="x") as client:
        answer = await client.state(HEAD)
        assert isinstance(answer, HeadUnreachable)
        assert answer.reason.startswith("The Ray head qwen3-1a2b3c4d-head could not be reached")
    async with HeadClient(url_template="http://{service}.invalid:1", cluster_domain="x") as client:
        answer = await client.state(HEAD)
        assert isinstance(answer, HeadUnreachable)
        assert "no address yet" in answer.reason
