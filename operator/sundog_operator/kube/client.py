"""Reading and writing objects as plain dicts; one method per verb, for every kind.

Nothing is tried again here: an error goes up to the work queue, which backs off per resource. Every write passes the
guard twice: its time-out ends with the right to write, and the last look is taken with the connection in hand.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, Self

import aiohttp

from sundog_operator.core.names import FIELD_MANAGER, SCALE_FIELD_MANAGER, STATUS_FIELD_MANAGER, Manifest
from sundog_operator.kube.connection import CONNECT_SECONDS, Connection
from sundog_operator.kube.errors import KubeError, NotLeading
from sundog_operator.kube.resources import ACCESS_REVIEW, BY_KIND, Resource

REQUEST_SECONDS: Final = 10.0
"""A write takes milliseconds, or tens with slow admission webhooks (whose own default time-out is 10 s)."""
LIST_SECONDS: Final = 60.0
PAGE: Final = 50
"""Objects per page. As Python objects a Deployment of ours takes 60 KiB: a page of them is 3 MiB."""

METADATA_PAGE: Final = 250
CONNECTIONS: Final = 8
"""350 applies a second went through 8 connections, which is more than passes make."""

APPLY: Final = "application/apply-patch+yaml"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

Guard = Callable[[], float]
"""Seconds for which this process may still write; 0 or less: not at all."""
Observer = Callable[[str, str, str], None]
"""Is told verb, kind and HTTP status (or `error`) of each request."""


class Page(NamedTuple):
    """A part of a list."""

    items: list[Manifest]
    version: int
    """The list's resourceVersion, the same for all its pages."""


class Client:
    """A client of one API server."""

    def __init__(
        self,
        connection: Connection,
        *,
        guard: Guard,
        observer: Observer = lambda *_: None,
        connections: int = CONNECTIONS,
    ) -> None:
        """Prepare; `async with` opens the session."""
        self._connection = connection
        self._guard = guard
        self._observer = observer
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._before_first_byte)
        self._session = self._connection.session(connections=self._connections, traces=[trace])
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        if self._session:
            await self._session.close()

    async def apply(self, manifest: Manifest) -> Manifest:
        """Apply server-side, and give the object as the server has it then.

        A field that the server does not know is an error, not dropped: a typo in `spec.podTemplate` is told.

        Raises:
            KubeError: it was refused, or the server could not be reached.
            NotLeading: this process may not write.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        return await self._write("PATCH", _path(manifest), manifest, query=query, content_type=APPLY)

    async def apply_as(self, manager: str, manifest: Manifest, *, force: bool) -> Manifest:
        """Apply server-side for a person: under a field manager of their own, and over others' fields only by force.

        Raises:
            KubeError: it was refused (`conflict`: a field belongs to another manager), or there was no answer.
            NotLeading: this process may not write.
        """
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        return await self._write("PATCH", _path(manifest), manifest, query=query, content_type=APPLY)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Apply the status of an LLMDeployment: all its fields, and no others.

        Raises:
            KubeError: it was refused, or the server could not be reached.
            NotLeading: this process may not write.
        """
        query = {"fieldManager": STATUS_FIELD_MANAGER, "force": "true"}
        path = _path(manifest, subresource="status")
        return await self._write("PATCH", path, manifest, query=query, content_type=APPLY)

    async def scale(self, resource: Resource, *, namespace: str, name: str, replicas: int, version: str) -> bool:
        """Write the number of replicas, if the object has this resourceVersion.

        Returns:
            Whether it was written; False: the object has changed or gone meanwhile.

        Raises:
            KubeError: it was refused, or the server could not be reached.
            NotLeading: this process may not write.
        """
        target = _Target(resource, resource.path(namespace=namespace, name=name, subresource="scale"))
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"namespace": namespace, "name": name, "resourceVersion": version},
            "spec": {"replicas": replicas},
        }
        try:
            await self._write("PUT", target, body, query={"fieldManager": SCALE_FIELD_MANAGER})
        except KubeError as error:
            if error.not_found or error.conflict:
                return False
            raise
        return True

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create an object; None: one of that name exists already.

        Raises:
            KubeError: it was refused, or the server could not be reached.
            NotLeading: this process may not write.
        """
        resource, metadata = BY_KIND[manifest["kind"]], manifest["metadata"]
        target = _Target(resource, resource.path(namespace=metadata["namespace"]))
        try:
            return await self._write("POST", target, manifest, query={"fieldManager": FIELD_MANAGER})
        except KubeError as error:
            if error.conflict:
                return None
            raise

    async def delete(self, kind: str, *, namespace: str, name: str, uid: str) -> Manifest | None:
        """Delete an object if it still has this uid.

        Returns:
            The object where the server deletes it later, else None: it is gone, or another has taken its name.

        Raises:
            KubeError: it was refused, or the server could not be reached.
            NotLeading: this process may not write.
        """
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        resource = BY_KIND[kind]
        target = _Target(resource, resource.path(namespace=namespace, name=name))
        try:
            answer = await self._write("DELETE", target, options)
        except KubeError as error:
            if error.not_found or error.conflict:
                return None
            raise
        return None if answer.get("kind") == "Status" else answer

    async def get(self, kind: str, *, namespace: str, name: str) -> Manifest | None:
        """Read an object live; None: there is none.

        Raises:
            KubeError: it was refused, or the server could not be reached.
        """
        return await self.read(BY_KIND[kind], namespace=namespace, name=name)

    async def read(self, resource: Resource, *, namespace: str | None, name: str) -> Manifest | None:
        """Read an object of any kind live; None: there is none.

        Raises:
            KubeError: it was refused, or the server could not be reached.
        """
        return await self._get(resource, namespace=namespace, name=name, accept="application/json")

    async def get_metadata(self, kind: str, *, namespace: str, name: str) -> Manifest | None:
        """Read the metadata of an object live; None: there is none.

        Raises:
            KubeError: it was refused, or the server could not be reached.
        """
        return await self._get(BY_KIND[kind], namespace=namespace, name=name, accept=METADATA)

    async def pages(
        self, resource: Resource, *, namespace: str | None, labels: str = "", fields: str = "", page: int = PAGE
    ) -> AsyncIterator[Page]:
        """List objects, a page at a time, as the API server has them now (not from a cache that may be behind).

        Raises:
            KubeError: it was refused, or the server could not be reached.
        """
        async for part in self._pages(resource, namespace, labels, fields, page=page, accept="application/json"):
            yield part

    async def metadata_pages(
        self, resource: Resource, *, namespace: str | None, labels: str = ""
    ) -> AsyncIterator[Page]:
        """List the metadata of objects, a page at a time.

        Raises:
            KubeError: it was refused, or the server could not be reached.
        """
        async for part in self._pages(resource, namespace, labels, "", page=METADATA_PAGE, accept=METADATA_LIST):
            yield part

    async def try_watch(self, resource: Resource, *, namespace: str | None, labels: str = "") -> None:
        """Open a watch and close it: to learn at the start whether it is permitted.

        Raises:
            KubeError: it is not, or the server could not be reached.
        """
        query = {"watch": "true", "timeoutSeconds": "1", **({"labelSelector": labels} if labels else {})}
        path = resource.path(namespace=namespace)
        async with self._answer("GET", _Target(resource, path), query=query, seconds=REQUEST_SECONDS, verb="watch"):
            pass

    @asynccontextmanager
    async def through(
        self, method: str, resource: Resource, path: str, *, query: Mapping[str, str], body: Manifest | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask what lies behind the API server (a log, a Service), and read the answer as it comes, however long.

        Raises:
            KubeError: it was refused, by the API server or by what lies behind, or there was no answer.
        """
        target = _Target(resource, path)
        async with self._answer(method, target, query=query, body=body, accept="*/*", seconds=None) as response:
            yield response

    async def server_version(self) -> tuple[int, int]:
        """Ask the API server for its version: major and minor.

        Raises:
            KubeError: it could not be reached.
        """
        version = Resource("", "Version", "version", namespaced=False)
        answer = await self._json("GET", _Target(version, "/version"), seconds=REQUEST_SECONDS)
        return int(answer["major"]), int(answer["minor"].rstrip("+"))

    async def review_access(self, spec: Manifest) -> bool:
        """Ask whether a user may do something (`spec` of a SubjectAccessReview). Nothing is written, so no guard.

        Raises:
            KubeError: the question was refused, or the server could not be reached.
        """
        review = {"apiVersion": ACCESS_REVIEW.api_version, "kind": ACCESS_REVIEW.kind, "spec": spec}
        target = _Target(ACCESS_REVIEW, ACCESS_REVIEW.path(namespace=None))
        answer = await self._json("POST", target, body=review, seconds=REQUEST_SECONDS)
        return bool(answer.get("status", {}).get("allowed"))

    async def replace_lease(self, manifest: Manifest) -> Manifest:
        """Replace a Lease if it is still the one that was read; the right to write hangs on it, so no guard.

        Raises:
            KubeError: another was quicker (`conflict`), it was refused, or the server could not be reached.
        """
        return await self._json("PUT", _path(manifest), body=manifest, seconds=CONNECT_SECONDS)

    async def create_lease(self, manifest: Manifest) -> Manifest:
        """Create a Lease.

        Raises:
            KubeError: another was quicker (`conflict`), it was refused, or the server could not be reached.
        """
        resource = BY_KIND[manifest["kind"]]
        target = _Target(resource, resource.path(namespace=manifest["metadata"]["namespace"]))
        return await self._json("POST", target, body=manifest, seconds=CONNECT_SECONDS)

    async def _get(self, resource: Resource, *, namespace: str | None, name: str, accept: str) -> Manifest | None:
        target = _Target(resource, resource.path(namespace=namespace, name=name))
        try:
            return await self._json("GET", target, accept=accept, seconds=REQUEST_SECONDS)
        except KubeError as error:
            if error.not_found:
                return None
            raise

    async def _pages(
        self, resource: Resource, namespace: str | None, labels: str, fields: str, *, page: int, accept: str
    ) -> AsyncIterator[Page]:
        query = {"limit": str(page)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        target = _Target(resource, resource.path(namespace=namespace))
        while True:
            answer = await self._json("GET", target, query=query, accept=accept, seconds=LIST_SECONDS, verb="list")
            items: list[Manifest] = answer.get("items") or []
            for item in items:  # a list's items leave out what the list says for all of them
                item["kind"] = resource.kind
                item["apiVersion"] = resource.api_version
            yield Page(items, int(answer["metadata"]["resourceVersion"]))
            if not answer["metadata"].get("continue"):
                return
            query["continue"] = answer["metadata"]["continue"]

    async def _write(
        self,
        method: str,
        target: _Target,
        body: Manifest,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        left = self._guard()
        if left <= 0:
            raise NotLeading(f"{method} {target.path} was held back: this process no longer holds the Lease")
        return await self._json(
            method,
            target,
            body=body,
            query=query,
            content_type=content_type,
            seconds=min(REQUEST_SECONDS, left),
            guarded=True,
        )

    async def _json(self, method: str, target: _Target, **how: Any) -> Manifest:
        async with self._answer(method, target, **how) as response:
            answer: Manifest = json.loads(await response.read())
            return answer

    @asynccontextmanager
    async def _answer(  # noqa: PLR0913 the one place where a request is made
        self,
        method: str,
        target: _Target,
        *,
        seconds: float | None,
        body: Manifest | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        guarded: bool = False,
        verb: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "the client is used inside `async with`"
        outcome = "error"
        try:
            async with self._session.request(
                method,
                self._connection.server + target.path,
                params=query,
                data=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
                headers={"Accept": accept, **({} if body is None else {"Content-Type": content_type})},
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
                allow_redirects=False,
                trace_request_ctx=guarded,
            ) as response:
                outcome = str(response.status)
                if response.status >= 400:
                    raise await _refusal(response)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = "error"
            told = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise KubeError(f"The API server could not be reached ({method} {target.path}): {told}") from error
        finally:
            self._observer(verb or _VERBS[method], target.resource.kind, outcome)

    async def _before_first_byte(self, _session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
        # A connection may take seconds to come, and a process may be stopped for minutes at any line.
        if context.trace_request_ctx and self._guard() <= 0:
            raise NotLeading("A write was held back: this process no longer holds the Lease")


_VERBS: Final = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class _Target(NamedTuple):
    resource: Resource
    path: str


def _path(manifest: Manifest, *, subresource: str = "") -> _Target:
    resource, metadata = BY_KIND[manifest["kind"]], manifest["metadata"]
    path = resource.path(namespace=metadata.get("namespace"), name=metadata["name"], subresource=subresource)
    return _Target(resource, path)


async def _refusal(response: aiohttp.ClientResponse) -> KubeError:
    """Give the server's own words: the message of its Status, or the beginning of what else it (or a proxy) said."""
    text = (await response.read()).decode(errors="replace")
    try:
        status: Any = json.loads(text)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        message = str(status.get("message") or status.get("reason") or response.reason)
    else:
        message = f"HTTP {response.status} {text.strip()[:200] or response.reason}"
    try:
        retry_after = float(response.headers.get("Retry-After", ""))
    except ValueError:
        retry_after = None
    return KubeError(message, status=response.status, retry_after_seconds=retry_after)
