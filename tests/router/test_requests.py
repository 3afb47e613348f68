"""Which requests reach a replica, and what of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sundog_operator.core.router_config import ROUTES
from tests.router.rig import TOKEN, Rig, running, until

ALLOWED = [
    *((method, path) for method, paths in ROUTES.items() for path in paths),
    ("GET", "/v1/models/qwen3-8b"),
    ("GET", "/v1/responses/resp_0123abc"),
    ("POST", "/v1/responses/resp_0123abc/cancel"),
    ("POST", "/v1/chat/completions?api-version=1"),
    ("GET", "http://model/v1/models"),
]

REFUSED = [
    # vLLM's routes for whoever runs it, and Ray Serve's.
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/v1/unload_lora_adapter"),
    ("POST", "/v1/chat/completions/render"),
    ("POST", "/inference/v1/generate"),
    ("POST", "/abort_requests"),
    ("POST", "/collective_rpc"),
    ("POST", "/sleep"),
    ("POST", "/wake_up"),
    ("POST", "/pause"),
    ("POST", "/reset_prefix_cache"),
    ("POST", "/scale_elastic_ep"),
    ("POST", "/start_profile"),
    ("POST", "/invocations"),
    ("GET", "/server_info"),
    ("GET", "/load"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/-/routes"),
    ("GET", "/-/healthz"),
    ("GET", "/"),
    # Other readings of an allowed path.
    ("GET", "//v1/models"),
    ("GET", "/v1//models"),
    ("GET", "/v1/models/"),
    ("GET", "/v1/models/.."),
    ("GET", "/v1/models/../load"),
    ("GET", "/v1/models/./x"),
    ("GET", "/v1/models/..%2fload"),
    ("GET", "/v1/models/%2e%2e/load"),
    ("GET", "/v1/models/a/b"),
    ("GET", "/v1/%6dodels"),
    ("GET", "/V1/models"),
    ("GET", "/load;/v1/models"),
    ("GET", "/load?/v1/models"),
    ("GET", "/v1/models;x"),
    ("GET", "http://model/load"),
    ("POST", "/v1/responses/../../sleep/cancel"),
    # An allowed path with another method.
    ("DELETE", "/v1/responses/resp_0123abc"),
    ("GET", "/v1/chat/completions"),
    ("POST", "/v1/models"),
    ("PUT", "/v1/completions"),
    ("PATCH", "/v1/completions"),
    ("TRACE", "/v1/models"),
    ("OPTIONS", "/v1/completions"),
    ("get", "/v1/models"),
]


async def test_the_routes_of_users_reach_a_replica_and_no_other_does(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        for method, target in ALLOWED:
            assert (await rig.ask(method, target)).status == 200, (method, target)
        reached = [(each.method, each.target) for each in rig.replicas[0].received]
        assert reached == ALLOWED
        for method, target in REFUSED:
            answer = await rig.ask(method, target)
            assert (answer.status, answer.error()["code"]) == (404, "unknown_route"), (method, target)
        assert len(rig.replicas[0].received) == len(ALLOWED)


@pytest.mark.parametrize(
    "target", ["/v1/models#/load", "/v1/mo dels", "v1/models", "/v1/\x01models", "http://x/v1/models"]
)
async def test_what_is_no_valid_request_is_no_request(tmp_path: Path, target: str) -> None:
    async with running(tmp_path, replicas=1) as rig:
        assert (await rig.ask("GET", target)).status in {400, 404}
        assert rig.replicas[0].received == []


async def _received(rig: Rig, headers: dict[str, str]) -> dict[str, list[str]]:
    assert (await rig.ask(headers=headers)).status == 200
    return rig.replicas[0].received[-1].headers


@pytest.mark.parametrize("name", ["x-sundog-replica-token", "X-Sundog-Replica-Token"])
async def test_a_replica_sees_the_routers_token_and_never_the_clients(tmp_path: Path, name: str) -> None:
    async with running(tmp_path, replicas=1) as rig:
        assert (await _received(rig, {}))["x-sundog-replica-token"] == [TOKEN]
        assert (await _received(rig, {name: "forged"}))["x-sundog-replica-token"] == [TOKEN]
        assert "forged" not in str(rig.replicas[0].received)
        answer = await rig.ask()
        assert TOKEN not in f"{answer} {rig.log()} {(rig.folder / 'haproxy.cfg').read_text()}"


async def test_a_client_cannot_switch_off_limits_of_serve_and_engine(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        headers = {
            "X-Request-Timeout-Seconds": "0",
            "X-Request-Disconnect-Disabled": "?1",
            "X-Data-Parallel-Rank": "7",
            "x-serve-router-target": "x",
            "serve_multiplexed_model_id": "x",
            "Connection": "Upgrade, HTTP2-Settings",
            "Upgrade": "h2c",
            "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA",
            "Authorization": "Bearer of-the-user",
        }
        received = await _received(rig, headers)
        assert set(received) & {each.lower() for each in headers} == {"authorization", "connection"}
        assert received["connection"] == ["close"]


async def test_every_answer_and_the_replica_know_the_request_by_one_identifier(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        for given in (None, "client-4.2_1", "has spaces", "x" * 200):
            answer = await rig.ask(headers={"x-request-id": given} if given else {})
            at_replica = rig.replicas[0].received[-1].headers["x-request-id"]
            assert [answer.headers["x-request-id"]] == at_replica
            assert (at_replica == [given]) == (given == "client-4.2_1")
        refused = await rig.ask("GET", "/nowhere", headers={"x-request-id": "of-a-refusal"})
        assert refused.headers["x-request-id"] == "of-a-refusal"


async def test_large_bodies_pass_and_too_large_ones_are_told(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        body = bytes(range(256)) * 40_000
        assert (await rig.ask(body=body)).status == 200
        assert rig.replicas[0].received[-1].body == body
        answer = await rig.ask(headers={"content-length": str(65 * 1024 * 1024)})
        assert (answer.status, answer.error()["code"]) == (413, "body_too_large")


async def test_a_chunked_body_passes(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        client = rig.client()
        await client.send("POST", "/v1/completions", headers={"transfer-encoding": "chunked"})
        await client.write(b"3\r\nabc\r\n")
        await client.write(b"3\r\ndef\r\n0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert rig.replicas[0].received[-1].body == b"abcdef"


async def test_a_slow_sender_takes_no_place(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, max_ongoing_per_replica=1) as rig:
        slow = rig.client()
        await slow.send("POST", "/v1/completions", headers={"content-length": "6"})
        await rig.requests(1)
        assert (await rig.ask()).status == 200
        await slow.write(b"abcdef")
        assert (await slow.answer()).status == 200


async def test_health_is_answered_without_a_replica_hearing_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        assert {(await rig.ask("GET", path)).status for path in ("/health", "/ping")} == {200}
        assert rig.replicas[0].received == []


async def test_a_suspended_model_refuses_every_request_and_holds_none(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1, suspended=True) as rig:
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/health")):
            answer = await rig.ask(method, path)
            assert (answer.status, answer.error()["code"]) == (503, "suspended")
        assert rig.replicas[0].received == []


async def test_each_token_passes_as_it_comes(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        client = await rig.stream_of(rig.replicas[0])
        assert await client.chunk() == b"data: first\n\n"
        assert rig.replicas[0].ongoing


async def test_the_log_has_a_line_of_json_for_what_went_wrong_and_none_for_what_did_not(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        await rig.ask(body=b'{"messages": "a secret prompt"}', headers={"x-request-id": "went-well"})
        await rig.ask("GET", "/nowhere")
        rig.replicas[0].last_byte.clear()
        client = rig.client()
        target = '/v1/completions?key="secret"'
        await client.send("POST", target, body=b"a secret prompt", headers={"x-request-id": "was-cut"})
        await client.head()
        await rig.replicas[0].kill()
        await client.answer()
        await until(lambda: "was-cut" in rig.log(), "the line of the cut request")
        (line,) = (json.loads(each) for each in rig.log().splitlines() if each.startswith("{"))
        assert line["id"] == "was-cut"
        assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/completions", 200)
        assert line["ended"] == "SD"
        assert "secret" not in rig.log()


async def test_a_repeated_request_is_logged(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=1) as rig:
        await rig.replicas[0].kill()
        assert (await rig.ask()).headers["x-replica"] == rig.head.address
        await until(lambda: '{"time"' in rig.log(), "its line")
        (line,) = (json.loads(each) for each in rig.log().splitlines() if each.startswith("{"))
        assert (line["server"], line["retries"][0]) == ("head", "+")


async def test_the_recorded_metrics_are_still_those_of_the_router(tmp_path: Path) -> None:
    """Boards and alerts are tried with the recording."""
    recorded = Path(__file__).parents[1] / "observability" / "recorded" / "router.prom"
    async with running(tmp_path, replicas=2) as rig:
        found = (await rig.metrics()).keys()
    series = {line.rpartition(" ")[0] for line in recorded.read_text().splitlines() if not line.startswith("#")}
    assert series - found == set()


async def test_metrics_leave_empty_slots_out(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=2) as rig:
        rig.replicas[0].first_byte.clear()
        rig.replicas[1].first_byte.clear()
        asked = [asyncio.create_task(rig.ask()) for _ in range(4)]
        await until(lambda: rig.replicas[0].ongoing + rig.replicas[1].ongoing == 4, "4 requests")
        metrics = await rig.metrics()
        assert metrics['haproxy_server_current_sessions{proxy="replicas",server="replica1"}'] == 2
        assert metrics['haproxy_backend_current_queue{proxy="replicas"}'] == 0
        assert not any('server="replica3"' in key for key in metrics)
        assert len(metrics) < 800
        rig.replicas[0].first_byte.set()
        rig.replicas[1].first_byte.set()
        await asyncio.gather(*asked)
