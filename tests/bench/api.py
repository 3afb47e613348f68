"""The bench's own way to the API server: few methods, plain dicts, and the time of every event."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self

import aiohttp

from sundog_operator.kube.resources import Resource
from tests.apiserver.operator.proxy import upstream_of
from tests.bench.errors import BenchError

Manifest = dict[str, Any]

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
LINE_BYTES = 2**24


class Api:
    """An API server, as its administrator; none of what it asks is counted as the operator's."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read the credentials."""
        self._server, self._ssl = upstream_of(kubeconfig)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=LINE_BYTES,
            raise_for_status=_require,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        if self._session:
            await self._session.close()

    async def text(self, path: str, *, user: str = "") -> str:
        """Read what is at a path, as it stands; in another's name, where one is given."""
        async with self._request("GET", path, headers={"Impersonate-User": user} if user else {}) as answer:
            return await answer.text()

    async def list(self, resource: Resource, *, namespace: str) -> list[Manifest]:
        """Read the metadata of all objects of a kind in a namespace."""
        path = resource.path(namespace=namespace)
        async with self._request("GET", path, headers={"Accept": METADATA_LIST}) as answer:
            return list((await answer.json())["items"])

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Create an object."""
        path = resource.path(namespace=manifest["metadata"].get("namespace"))
        async with self._request("POST", path, json=manifest) as answer:
            return dict(await answer.json())

    async def merge(self, resource: Resource, *, namespace: str, name: str, patch: Manifest) -> Manifest:
        """Change an object by a merge patch."""
        path = resource.path(namespace=namespace, name=name)
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self._request("PATCH", path, data=json.dumps(patch).encode(), headers=headers) as answer:
            return dict(await answer.json())

    async def watch(self, resource: Resource, *, namespace: str, whole: bool) -> AsyncIterator[Manifest]:
        """Tell what there is, and then each change, without an end.

        Args:
            resource: which kind.
            namespace: where.
            whole: whether the objects come whole; else their metadata alone, which is less to read.

        Raises:
            BenchError: a change was lost.
        """
        query = {"watch": "true"}
        headers = {} if whole else {"Accept": METADATA}
        path = resource.path(namespace=namespace)
        while True:  # the server ends a watch whose reader has fallen behind, as on a busy machine
            async with self._request("GET", path, params=query, headers=headers) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise BenchError(f"the watch of {resource.full_name} failed: {event['object'].get('message')}")
                    query["resourceVersion"] = event["object"]["metadata"]["resourceVersion"]
                    yield event

    def _request(self, method: str, path: str, **how: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None, "the client is used inside `async with`"
        return self._session.request(method, self._server + path, **how)


async def _require(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        raise BenchError(f"the API server refused {answer.method} {answer.url.path}: {await answer.text()}")
