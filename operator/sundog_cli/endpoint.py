"""The OpenAI-compatible API of an LLMDeployment, reached directly where that works, else through the API server.

The API server passes a request on to a Service for whoever may `create` on `services/proxy`; a stream comes through it
as it is written, in pieces of up to 200 ms.

It cuts an answer that comes quicker than its own Go transport looks for the end of the question's body: with a
Content-Length the transport looks once more after it has sent all of it, and its server closes that body as soon as an
answer begins (net/http of Go 1.26, `transferWriter.writeBody` and `chunkWriter.writeHeader`). On a busy machine this
was 36 answers of 1,800. A body in chunks is at its end before the last of it is sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import aiohttp

from sundog_cli.cluster import SERVICE, Cluster, sentence
from sundog_cli.errors import Trouble
from sundog_operator.core.names import Manifest
from sundog_operator.kube.errors import KubeError

PROBE_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 10.0
DIRECTLY: Final = "directly"
THROUGH_API_SERVER: Final = "through the API server"


class Refused(Exception):  # noqa: N818 an answer like another, to who measures
    """The API answered with an error; the message is its own."""

    def __init__(self, message: str, *, status: int) -> None:
        """Keep the HTTP status; 0: there was no answer, or it ended early."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer."""

    text: str
    at: float
    """When it came, by the monotonic clock."""
    tokens: int | None = None
    """Of the whole answer, in the last piece, where the engine says it."""
    prompt_tokens: int | None = None
    """Of the question, beside them."""
    finish_reason: str | None = None
    """Why the answer ended, where the engine says it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go."""

    session: aiohttp.ClientSession
    url: str
    """With `/v1`."""
    model: str
    via: str
    """In words."""

    @property
    def in_chunks(self) -> Literal[True] | None:
        """Whether the body of a question goes in chunks, in the words of aiohttp."""
        return True if self.via == THROUGH_API_SERVER else None

    async def chat(self, body: Mapping[str, Any]) -> AsyncIterator[Piece]:
        """Ask, and give the answer in the pieces in which it comes.

        Raises:
            Refused: the API answered with an error, or the connection was lost.
        """
        asked = {"model": self.model, "stream": True, "stream_options": {"include_usage": True}, **body}
        ended = False
        try:
            async with self.session.post(
                f"{self.url}/chat/completions",
                json=asked,
                chunked=self.in_chunks,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            ) as response:
                if response.status != 200:
                    raise await _refusal(response)
                async for data in _events(response):
                    if data == b"[DONE]":
                        ended = True
                    elif piece := _piece(json.loads(data)):
                        yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not ended:  # else all of the answer has come, and only the end of the connection is missing
                raise Refused(f"the connection was lost: {error or type(error).__name__}", status=0) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Refused(f"what came is no stream of chat completions: {error}", status=0) from error
        if not ended:
            raise Refused("the answer ended early, without [DONE]", status=0)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _piece(event: Mapping[str, Any]) -> Piece | None:
    if "error" in event:
        raise Refused(_words(event), status=0)
    no_choice: Mapping[str, Any] = {"delta": {}}  # as in the event with the usage
    choice = next(iter(event.get("choices") or ()), no_choice)
    text = choice["delta"].get("content") or ""
    ended = choice.get("finish_reason")
    usage = event.get("usage") or {}
    if not text and not ended and not usage:
        return None
    return Piece(text, time.monotonic(), usage.get("completion_tokens"), usage.get("prompt_tokens"), ended)


async def _refusal(response: aiohttp.ClientResponse) -> Refused:
    text = (await response.read()).decode(errors="replace")
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("kind") == "Status":  # of the API server, before it came to the Service
        error = KubeError(str(said.get("message") or response.reason), status=response.status)
        words = sentence(error)
        if error.forbidden:
            words += " Without it: kubectl port-forward, and --url http://localhost:PORT/v1."
        return Refused(words, status=response.status)
    words = _words(said) if isinstance(said, dict) else text.strip()[:200] or str(response.reason)
    if again := response.headers.get("Retry-After"):
        words += f" (try again in {again} s)"
    return Refused(f"HTTP {response.status}: {words}", status=response.status)


def _words(said: Mapping[str, Any]) -> str:
    error = said.get("error", said)
    return str(error.get("message") or error) if isinstance(error, Mapping) else str(error)


@asynccontextmanager
async def reach(cluster: Cluster, resource: Manifest, *, url: str | None) -> AsyncIterator[Endpoint]:
    """Find the way to the API of an LLMDeployment.

    Args:
        cluster: in which it is.
        resource: the LLMDeployment.
        url: base URL with `/v1` that a person gave; None: whatever works.

    Raises:
        Trouble: no Service has been made yet.
    """
    name = resource["metadata"]["name"]
    model = resource["spec"]["model"].get("name") or name
    port = int(resource["spec"].get("service", {}).get("port", 8000))
    async with AsyncExitStack() as stack:
        direct = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        )
        if url:
            yield Endpoint(direct, url.rstrip("/"), model, f"at {url}")
            return
        try:
            service = await cluster.client.read(SERVICE, namespace=cluster.namespace, name=name)
        except KubeError as error:
            if not error.forbidden:
                raise
            service = {}
        if service is None:
            raise Trouble(f"{name} has no Service yet: kubectl sundog status {name} says what it waits for.")
        found = await asyncio.gather(*(_answers(direct, each, model) for each in addresses(resource, service, port)))
        if reached := next((each for each in found if each), None):
            yield Endpoint(direct, reached, model, DIRECTLY)
            return
        session = await stack.enter_async_context(cluster.connection.session(connections=0))
        path = cluster.service_path(name, port, "/v1")
        yield Endpoint(session, cluster.connection.server + path, model, THROUGH_API_SERVER)


def addresses(resource: Manifest, service: Manifest, port: int) -> list[str]:
    """Base URLs that may work, the best first."""
    spec = service.get("spec", {})
    hosts = [each.get("ip") or each.get("hostname") for each in _ingress(service)]
    hosts.append(spec.get("clusterIP") if spec.get("clusterIP") != "None" else None)
    urls = [f"http://{f'[{host}]' if ':' in host else host}:{port}/v1" for host in hosts if host]
    told = resource.get("status", {}).get("url")
    return [*urls, *([told] if told else [])]


def _ingress(service: Manifest) -> list[Manifest]:
    found: list[Manifest] = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    return found


async def _answers(session: aiohttp.ClientSession, url: str, model: str) -> str | None:
    """Give the URL if this model answers there: an address of a cluster may be another's on this network."""
    try:
        async with session.get(f"{url}/models", timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)) as response:
            said = await response.json(content_type=None)
            return url if any(each["id"] == model for each in said["data"]) else None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError):
        return None
