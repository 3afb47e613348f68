"""The operator's page: what it tells, what it never tells, and to whom."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from sundog_operator.core.names import Manifest
from sundog_operator.http_server import HTTPServer, is_forwarded
from sundog_operator.installed import of_operator
from sundog_operator.kube.store import Store
from sundog_operator.metrics import Metrics
from sundog_operator.page import SHOWN, page
from tests.unit.core.world import World, resource
from tests.unit.operator.fleet import HOSTILE, SECRET, fleet, stored

# Without an end tag, by the standard.
VOID = {"meta"}


class _Text(HTMLParser):
    """What is read of a page, and which elements it has; a tag that is not closed is a fault."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words += data + "\n"


def shown(worlds: list[World], namespace: str = "") -> _Text:
    return _Text(text_of(worlds, namespace))


def text_of(worlds: list[World], namespace: str = "") -> str:
    def pods(one: Manifest) -> list[Manifest]:
        return [pod for world in worlds if world.resource is one for pod in world.pods.values()]

    return page([world.resource for world in worlds], pods, namespace=namespace)


def test_each_deployment_is_shown_with_why_it_is_not_ready() -> None:
    words = shown(fleet()).words
    assert "2 of 7 LLMDeployments are ready" in words
    assert "3 of 3" not in words
    assert "AllReplicasReady" in words
    assert "ScaledToZero" in words
    assert re.search(r"InsufficientGPU\n.*\nno node has enough free nvidia.com/gpu for pod mistral-small-\S+", words)
    assert "EngineArgumentInvalid" in words
    assert "vLLM 0.32 has no argument no-such-argument; remove it" in words
    assert "no pass has looked at it yet" in words


def test_the_tree_has_every_revision_and_every_replica() -> None:
    (changing,) = [world for world in fleet() if world.resource["metadata"]["name"] == "llama-3-1-8b"]
    words = shown([changing]).words
    assert len(changing.resource["status"]["revisions"]) == 2
    for revision in changing.resource["status"]["revisions"]:
        assert revision["hash"] in words
    for pod in changing.pods:
        assert pod in words


def test_a_pod_tells_its_own_trouble_where_the_status_tells_another() -> None:
    poor = fleet()[2]
    pod = next(iter(poor.pods.values()))
    assert shown([poor]).words.count("no node has enough free") == 1
    waiting = {"reason": "ErrImagePull", "message": "no such tag"}
    pod["status"] = {"containerStatuses": [{"name": "engine", "image": "acme/llm:1", "state": {"waiting": waiting}}]}
    assert "ImagePullFailed: image acme/llm:1 cannot be pulled: no such tag" in shown([poor]).words


def test_the_last_decisions_come_newest_first() -> None:
    words = shown(fleet()[:1]).words
    assert words.index("replicas 3 → 2") < words.index("replicas 0 → 3")


def test_those_that_are_not_ready_come_first() -> None:
    words = shown(fleet()).words
    assert words.index("chat/llama-3-1-8b") < words.index("chat/qwen3")
    assert words.index("search/mistral-small") < words.index("chat/qwen3")


def test_a_status_of_an_older_spec_is_not_called_ready() -> None:
    world = fleet()[0]
    assert "1 of 1 LLMDeployments are ready" in shown([world]).words
    world.edit(replicas=9)
    assert "0 of 1 LLMDeployments are ready" in shown([world]).words


def test_a_namespace_can_be_chosen() -> None:
    found = shown(fleet(), "search")
    assert "1 of 2 LLMDeployments are ready" in found.words
    assert "chat/qwen3" not in found.words
    assert "?namespace=chat" in found.links
    assert "0 of 0 LLMDeployments are ready" in shown(fleet(), "nowhere").words


def test_nothing_that_a_resource_says_becomes_html() -> None:
    worlds = fleet()
    worlds[-1].resource["metadata"]["name"] = HOSTILE
    worlds[-1].resource["status"]["url"] = HOSTILE
    worlds[-1].resource["status"]["scaling"] = [{"time": HOSTILE, "from": 0, "to": 1, "who": HOSTILE}]
    for namespace in ("", HOSTILE, '"><script>'):
        found = shown(worlds, namespace)
        assert not found.tags & {"script", "img", "iframe", "link", "form", "object"}
        assert not [name for name in found.attributes if name.startswith("on")]
        assert all(link.startswith("?") for link in found.links)
    assert HOSTILE in shown(worlds).words.replace("\n", "")


def test_nothing_of_a_spec_is_shown_but_the_address_of_the_model() -> None:
    assert SECRET not in text_of(fleet())
    assert "no-such-argument=" not in text_of(fleet())


def test_a_page_has_an_end_and_says_what_it_leaves_out() -> None:
    worlds = [World(resource(f"m{number}")) for number in range(SHOWN + 7)]
    asked: list[Manifest] = []

    def pods(one: Manifest) -> list[Manifest]:
        asked.append(one)
        return []

    text = page([world.resource for world in worlds], pods)
    assert text.count("<article") == len(asked) == SHOWN
    assert "7 more are not shown" in text


def test_the_same_world_gives_the_same_page() -> None:
    assert text_of(fleet()) == text_of(fleet())


@pytest.mark.parametrize(
    ("peer", "host", "yes"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "localhost", True),
        ("127.0.0.1", "rebound.example.com", False),
        ("10.244.0.7", "localhost", False),
        ("::ffff:10.244.0.7", "localhost", False),
        ("", "localhost", False),
        (None, None, False),
    ],
)
def test_the_page_is_for_those_who_may_forward_the_port(peer: str | None, host: str | None, *, yes: bool) -> None:
    assert is_forwarded(peer, host) is yes


@asynccontextmanager
async def served(*, page_is_public: bool = False, unready: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    store = Store()
    for manifest in stored(fleet()):
        store.put(manifest)
    server = HTTPServer(Metrics(), store, page_is_public=page_is_public, ill=lambda: None, unready=lambda: unready)
    port = unused_port()
    runner = await server.start(port)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


async def test_the_page_is_served_from_what_the_watches_told() -> None:
    async with served() as session, session.get("/?namespace=chat") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        words = _Text(await answer.text()).words
        assert "chat/qwen3" in words
        assert "gpu-0.eu-central-1.compute.internal" in words


async def test_the_page_cannot_be_read_under_another_name_unless_it_is_public() -> None:
    async with served() as session, session.get("/", headers={"Host": "rebound.example.com"}) as answer:
        assert answer.status == 403
        assert "kubectl port-forward" in await answer.text()
        assert "qwen3" not in await answer.text()
    async with (
        served(page_is_public=True) as session,
        session.get("/", headers={"Host": "sundog.example.com"}) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_the_page_takes_no_order(method: str) -> None:
    async with served() as session, session.request(method, "/") as answer:
        assert answer.status == 405


async def test_there_is_no_page_before_the_first_lists_are_read() -> None:
    async with served(unready="the first lists are being read") as session, session.get("/") as answer:
        assert answer.status == 503
        assert "first lists" in await answer.text()


async def test_helm_test_passes_on_what_the_operator_says_of_itself() -> None:
    async with served() as session:
        assert await of_operator(str(session._base_url)) == []  # noqa: SLF001 where it is served
    async with served(unready="the first lists are being read") as session:
        found = await of_operator(str(session._base_url))  # noqa: SLF001 likewise
    assert found == ["The operator says at /readyz: the first lists are being read"]
