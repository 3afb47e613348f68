"""The Kubernetes client against an HTTP server: what it sends, what it holds back, what it tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from kubernetes.aio.client import Configuration

from sundog_operator.core.names import Manifest
from sundog_operator.kube.client import Client
from sundog_operator.kube.connection import Connection
from sundog_operator.kube.errors import KubeError, NotLeading
from sundog_operator.kube.resources import BY_KIND

CONFIG_MAP: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "prod"},
    "data": {"k": "v"},
}


def status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code)


class Double:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.content_types: list[str] = []
        self.answers: list[web.Response] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.content_types.append(request.content_type)
        self.requests.append((request.method, request.path, dict(request.query), json.loads(body) if body else None))
        return self.answers.pop(0) if self.answers else web.json_response(CONFIG_MAP)


class Lease:
    """How long the client may write: a list of answers, the last one for ever."""

    def __init__(self) -> None:
        self.seconds: list[float] = [100.0]

    def left(self) -> float:
        return self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


@pytest.fixture
async def double() -> Double:
    return Double()


@pytest.fixture
async def lease() -> Lease:
    return Lease()


@pytest.fixture
async def seen() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
async def client(double: Double, lease: Lease, seen: list[tuple[str, str, str]]) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", double.handle)
    async with TestServer(app) as server:
        configuration = Configuration(host=str(server.make_url("")), api_key={"BearerToken": "Bearer secret"})
        connection = Connection(configuration, None)
        async with Client(connection, guard=lease.left, observer=lambda *what: seen.append(what)) as made:
            yield made


async def test_apply_is_server_side_with_our_manager_and_strict(client: Client, double: Double) -> None:
    await client.apply(CONFIG_MAP)
    query = {"fieldManager": "sundog", "force": "true", "fieldValidation": "Strict"}
    assert double.requests == [("PATCH", "/api/v1/namespaces/prod/configmaps/a", query, CONFIG_MAP)]
    assert double.content_types == ["application/apply-patch+yaml"]


async def test_a_status_has_its_own_manager(client: Client, double: Double) -> None:
    manifest = {**CONFIG_MAP, "apiVersion": "sundog.dev/v1alpha1", "kind": "LLMDeployment"}
    await client.apply_status(manifest)
    ((method, path, query, _),) = double.requests
    assert (method, path) == ("PATCH", "/apis/sundog.dev/v1alpha1/namespaces/prod/llmdeployments/a/status")
    assert query == {"fieldManager": "sundog-status", "force": "true"}


async def test_what_exists_or_is_gone_already_is_as_good(client: Client, double: Double) -> None:
    double.answers = [status(409, "exists"), status(404, "gone"), status(409, "another uid"), status(404, "no")]
    assert await client.create(CONFIG_MAP) is None
    assert await client.delete("ConfigMap", namespace="prod", name="a", uid="1") is None
    assert await client.delete("ConfigMap", namespace="prod", name="a", uid="1") is None
    assert await client.get("ConfigMap", namespace="prod", name="a") is None


async def test_deleting_names_the_uid_and_leaves_the_rest_to_the_background(client: Client, double: Double) -> None:
    await client.delete("ConfigMap", namespace="prod", name="a", uid="17")
    ((method, _, _, body),) = double.requests
    assert method == "DELETE"
    assert body["preconditions"] == {"uid": "17"}
    assert body["propagationPolicy"] == "Background"


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.apply(CONFIG_MAP),
        lambda client: client.apply_status(CONFIG_MAP),
        lambda client: client.create(CONFIG_MAP),
        lambda client: client.delete("ConfigMap", namespace="prod", name="a", uid="1"),
    ],
)
@pytest.mark.parametrize("left", [[0.0], [5.0, 0.0], [5.0, -3.0]])
async def test_no_write_leaves_the_process_without_the_right_to_write(
    client: Client, double: Double, lease: Lease, write: Callable[[Client], Any], left: list[float]
) -> None:
    # The second answer is asked for with the connection in hand: a process that was stopped in between.
    lease.seconds = left
    with pytest.raises(NotLeading):
        await write(client)
    assert double.requests == []
    lease.seconds = [100.0]
    await write(client)
    assert len(double.requests) == 1, "and the session still works"


async def test_a_write_ends_with_the_right_to_write(lease: Lease) -> None:
    ended = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lease.seconds = [0.2]
    loop = asyncio.get_running_loop()
    connection = Connection(Configuration(host=f"http://127.0.0.1:{port}"), None)
    async with Client(connection, guard=lease.left) as client:
        began = loop.time()
        with pytest.raises(KubeError, match="no answer in time"):
            await client.apply(CONFIG_MAP)
        assert loop.time() - began < 2
    ended.set()
    server.close()
    await server.wait_closed()


async def test_reading_needs_no_right_to_write(client: Client, lease: Lease) -> None:
    lease.seconds = [0.0]
    assert await client.get("ConfigMap", namespace="prod", name="a") == CONFIG_MAP


async def test_the_servers_own_words_are_told(client: Client, double: Double) -> None:
    words = 'configmaps "a" is forbidden: exceeded quota: count, requested: 1, used: 5, limited: 5'
    double.answers = [status(403, words)]
    with pytest.raises(KubeError) as refused:
        await client.apply(CONFIG_MAP)
    assert str(refused.value) == words
    assert refused.value.forbidden
    assert not refused.value.transient


async def test_what_a_proxy_says_is_told_in_part(client: Client, double: Double) -> None:
    double.answers = [web.Response(status=502, text="<html>" + "x" * 1000)]
    with pytest.raises(KubeError) as refused:
        await client.apply(CONFIG_MAP)
    assert str(refused.value).startswith("HTTP 502 <html>xxx")
    assert len(str(refused.value)) < 300
    assert refused.value.transient


async def test_retry_after_is_kept(client: Client, double: Double) -> None:
    double.answers = [web.Response(status=429, headers={"Retry-After": "7"}, text="later")]
    with pytest.raises(KubeError) as refused:
        await client.apply(CONFIG_MAP)
    assert refused.value.retry_after_seconds == 7
    assert refused.value.transient


async def test_a_server_that_is_away_is_told_without_secrets() -> None:
    configuration = Configuration(host=f"http://127.0.0.1:{unused_port()}", api_key={"BearerToken": "Bearer secret"})
    async with Client(Connection(configuration, None), guard=lambda: 10.0) as client:
        with pytest.raises(KubeError, match="could not be reached") as refused:
            await client.apply(CONFIG_MAP)
    assert refused.value.transient
    assert "secret" not in repr(refused.value)


async def test_lists_are_read_page_by_page_and_items_know_their_kind(client: Client, double: Double) -> None:
    def part(name: str, more: str) -> web.Response:
        metadata = {"resourceVersion": "42", "continue": more}
        return web.json_response({"metadata": metadata, "items": [{"metadata": {"name": name}}]})

    double.answers = [part("a", "next"), part("b", "")]
    pages = [page async for page in client.pages(BY_KIND["ConfigMap"], namespace=None, labels="x=y", page=1)]
    assert [page.version for page in pages] == [42, 42]
    assert [item for page in pages for item in page.items] == [
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}} for name in "ab"
    ]
    assert [query for _, _, query, _ in double.requests] == [
        {"limit": "1", "labelSelector": "x=y"},
        {"limit": "1", "labelSelector": "x=y", "continue": "next"},
    ]


async def test_every_request_is_counted_once(client: Client, double: Double, seen: list[tuple[str, str, str]]) -> None:
    double.answers = [web.json_response(CONFIG_MAP), status(404, "no"), status(500, "fault")]
    await client.apply(CONFIG_MAP)
    await client.get("ConfigMap", namespace="prod", name="a")
    with pytest.raises(KubeError):
        await client.create(CONFIG_MAP)
    assert seen == [("patch", "ConfigMap", "200"), ("get", "ConfigMap", "404"), ("create", "ConfigMap", "500")]
