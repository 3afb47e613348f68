"""The watches: kopf streams events into the store, and what is news for a resource puts it into the work queue.

The only module that imports kopf. Only `on.event`: every other kind of handler writes to people's objects, adds
finalizers or goes stale. Nothing is written here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import aiohttp
import kopf
import structlog
from yarl import URL

from sundog_operator.kube.connection import CONNECT_SECONDS, Connection
from sundog_operator.kube.listing import scopes
from sundog_operator.kube.resources import WATCHED, Resource, selector
from sundog_operator.kube.store import ResourceKey, Store

log = structlog.get_logger()

STREAM_SECONDS: Final = 300
"""The server ends a watch after this time, and it is opened anew where it ended: a watch that does not come again has
died."""
_SILENT_SECONDS: Final = 70
"""A watch without even a bookmark (one a minute) for so long is taken to be dead."""
_DEAD_SECONDS: Final = 2 * STREAM_SECONDS
_REQUEST_SECONDS: Final = 30
_LOGIN_PAUSE_SECONDS: Final = 5.0


class _EndlessBackoff:
    """kopf's delays between tries: without an end, for an operator that gives up helps nobody."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.5
        while True:
            yield delay * random.uniform(0.8, 1.2)  # noqa: S311 no secret
            delay = min(delay * 2, 5.0)


class _Session:
    """A session that lets each watch begin where the first list ended, instead of reading everything a second time.

    kopf knows only lists, or streams that begin with what exists. Read that way, 500 LLMDeployments took 30 MiB more at
    the start, and what was deleted between the two readings was told by nobody. A version that is too old already is
    answered with 410, and kopf then begins anew in its own way.
    """

    def __init__(self, session: aiohttp.ClientSession, versions: dict[str, int]) -> None:
        self._session = session
        self._versions = versions

    def request(self, *, method: str, url: str, **options: Any) -> Awaitable[aiohttp.ClientResponse]:
        """As the session's own."""
        asked = URL(url)
        version = self._versions.pop(asked.path, None) if "sendInitialEvents" in asked.query else None
        if version is not None:
            query = asked.without_query_params("sendInitialEvents", "resourceVersionMatch")
            asked = query.update_query(resourceVersion=str(version))
        return self._session.request(method, asked, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _NothingStored(kopf.DiffBaseStorage):
    """kopf compares each object with its last state for handlers that we do not have: with nothing, that is free."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        del body, extra_fields
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        del body, patch, essence


@dataclass(slots=True)
class _Watch:
    """The stream of one kind, in one namespace or in all."""

    resource: Resource
    opened: float
    trouble: str = ""


class Watches:
    """All watches of the operator."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        *,
        namespaces: Sequence[str],
        versions: dict[str, int] | None,
        on_news: Callable[[ResourceKey], None],
        on_gap: Callable[[Resource], None],
        on_spawned: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            connection: to the API server.
            store: what is fed.
            namespaces: those to watch; empty: all.
            versions: by URL path, the resourceVersion from which its first watch goes on; those used are taken out.
                None: the server can't stream what exists (before Kubernetes 1.34), so kopf lists it.
            on_news: is told the LLMDeployment that an event is news for.
            on_gap: is told the kind whose watch began anew without a memory: deletions may have been missed.
            on_spawned: is called when kopf has taken the process's signal handlers, to take them back.
            clock: seconds that grow.
        """
        self._connection = connection
        self._store = store
        self._namespaces = list(namespaces)
        self._initial_streaming = versions is not None
        self._versions = versions or {}
        self._on_news = on_news
        self._on_gap = on_gap
        self._on_spawned = on_spawned
        self._clock = clock
        self._stop = asyncio.Event()
        self._logged_in_at = float("-inf")
        self._watches = {
            resource.path(namespace=namespace): _Watch(resource, opened=clock())
            for resource in self._watched()
            for namespace in scopes(resource, namespaces)
        }

    async def run(self) -> None:
        """Watch until `stop`, and through whatever the API server does.

        Raises:
            Exception: kopf's own, where a watch cannot go on.
        """
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=self._settings(),
            # Given, since kopf would ask for the user's name, and the uid has none. Its type is not public.
            identity=cast("Any", "sundog-operator"),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )
        self._on_spawned()
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.set()
            # kopf would end every task of the process that it did not find at its start; what it has spawned ends with
            # the tasks given here.
            await kopf.run_tasks(tasks, ignored=asyncio.all_tasks() - set(tasks))

    def stop(self) -> None:
        """End the watches."""
        self._stop.set()

    def ill(self) -> str | None:
        """Say which watch has died; None: all live, even where the API server does not answer them."""
        now = self._clock()
        dead = [path for path, watch in self._watches.items() if now - watch.opened > _DEAD_SECONDS]
        return f"no watch of {', '.join(sorted(dead))} for {_DEAD_SECONDS} s" if dead else None

    def _watched(self) -> list[Resource]:
        return [resource for resource in WATCHED if self._store.reads(resource)]

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="connection", errors=kopf.ErrorsMode.TEMPORARY)(self._login)
        for resource in self._watched():
            kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id="store")(self._event)
        return registry

    async def _login(self, **_: object) -> kopf.AiohttpSession:
        # kopf logs in anew whenever it is refused (401), at once: without a pause, for ever and as fast as it can.
        if self._clock() - self._logged_in_at < _LOGIN_PAUSE_SECONDS:
            await asyncio.sleep(_LOGIN_PAUSE_SECONDS)
        self._logged_in_at = self._clock()
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._begins)
        trace.on_request_end.append(self._answered)
        trace.on_request_exception.append(self._failed)
        session = _Session(self._connection.session(connections=0, traces=[trace]), self._versions)
        return kopf.AiohttpSession(
            server=self._connection.server, aiohttp_session=cast("aiohttp.ClientSession", session)
        )

    async def _begins(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestStartParams
    ) -> None:
        if watch := self._watches.get(request.url.path):
            # A list, or a stream that begins with what exists: what was deleted since the last one isn't told.
            if "resourceVersion" not in request.url.query:
                self._on_gap(watch.resource)
            watch.opened = self._clock()

    async def _answered(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestEndParams
    ) -> None:
        if watch := self._watches.get(request.url.path):
            status = request.response.status
            self._tell(watch, "" if status == 200 else f"HTTP {status} {request.response.reason}")

    async def _failed(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestExceptionParams
    ) -> None:
        if (watch := self._watches.get(request.url.path)) and not self._stop.is_set():
            self._tell(watch, str(request.exception) or type(request.exception).__name__)

    def _tell(self, watch: _Watch, trouble: str) -> None:
        """Log when a watch breaks and when it is back, not each of the tries between."""
        if bool(trouble) != bool(watch.trouble):
            if trouble:
                log.warning("watch broken", kind=watch.resource.kind, cause=trouble)
            else:
                log.info("watch back", kind=watch.resource.kind)
        watch.trouble = trouble

    async def _event(self, *, event: kopf.RawEvent, **_: object) -> None:
        manifest: dict[str, Any] = dict(event["object"])
        had_default_class = self._store.default_storage_class
        key = self._store.remove(manifest) if event["type"] == "DELETED" else self._store.put(manifest)
        if key:
            self._on_news(key)
        if self._store.default_storage_class != had_default_class:
            for concerned in list(self._store.resources()):
                self._on_news(concerned)

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True  # no watch of CRDs and namespaces, and no right to it
        settings.watching.initial_streaming = self._initial_streaming
        settings.watching.server_timeout = STREAM_SECONDS
        settings.watching.inactivity_timeout = _SILENT_SECONDS
        settings.watching.connect_timeout = CONNECT_SECONDS
        settings.watching.reconnect_backoff = 0.5
        settings.networking.request_timeout = _REQUEST_SECONDS
        settings.networking.connect_timeout = CONNECT_SECONDS
        settings.networking.error_backoffs = _EndlessBackoff()
        settings.queueing.worker_limit = None
        # A worker per object that has an event: at the start all have one, and idle workers are most of the memory.
        settings.queueing.idle_timeout = 0.05
        settings.queueing.exit_timeout = 0.5
        settings.process.ultimate_exiting_timeout = 20
        settings.persistence.diffbase_storage = _NothingStored()
        for resource in WATCHED:
            if labels := selector(resource):
                settings.watching.label_selectors[resource.group, resource.plural] = labels
        return settings
