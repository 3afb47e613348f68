"""What the operator answers over plain HTTP: health, metrics, the page, and the load of what it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from sundog_operator.core.load import Load, Metric, Unmeasured
from sundog_operator.kube.store import ResourceKey, Store
from sundog_operator.metrics import Metrics
from sundog_operator.page import HEADERS, page

Finding = Callable[[], str | None]
"""Says what is wrong; None: nothing."""

HELP: Final = {
    Metric.ONGOING_REQUESTS: "Requests without their whole answer, those that wait included.",
    Metric.WAITING_REQUESTS: "Requests that no replica has taken yet.",
    Metric.KV_CACHE_UTILIZATION: "Share of the KV cache in use, from 0 to 1, on average over the replicas.",
    Metric.TOKENS_PER_SECOND: "Tokens that all replicas generate.",
}


_LOCAL_HOSTS: Final = {"localhost", "127.0.0.1", "::1"}
_PAGE_IS_PRIVATE: Final = (
    "This page tells of every namespace, so it is shown to those who may kubectl port-forward to the operator, at "
    "localhost. The chart's value page.public shows it to everyone who reaches this port.\n"
)


class HTTPServer:
    """The routes `/`, `/healthz`, `/readyz`, `/metrics`, `/metrics/loads` and `/loads/<namespace>/<name>`."""

    def __init__(self, metrics: Metrics, store: Store, *, page_is_public: bool, ill: Finding, unready: Finding) -> None:
        """Prepare.

        Args:
            metrics: what to tell.
            store: what the page shows.
            page_is_public: whether the page is for others than those who forward a port as well.
            ill: says why the process must be started anew.
            unready: says why it does not do its work yet.
        """
        self._metrics = metrics
        self._store = store
        self._page_is_public = page_is_public
        self._ill = ill
        self._unready = unready
        self._load: Callable[[ResourceKey], Awaitable[Load | None]] | None = None
        self._to_tell: Callable[[], Sequence[ResourceKey]] = tuple

    def measure(
        self, load: Callable[[ResourceKey], Awaitable[Load | None]], to_tell: Callable[[], Sequence[ResourceKey]]
    ) -> None:
        """Answer from now on with loads.

        Args:
            load: measures an LLMDeployment; None: there is none.
            to_tell: gives those whose load this process tells Prometheus.
        """
        self._load = load
        self._to_tell = to_tell

    async def start(self, port: int) -> web.AppRunner:
        """Listen on all addresses until the runner is cleaned up.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/", self._show_page)
        app.router.add_get("/metrics", self._tell_metrics)
        app.router.add_get("/metrics/loads", self._tell_loads)
        app.router.add_get("/loads/{namespace}/{name}", self._tell_load)
        app.router.add_get("/healthz", _answer(self._ill))
        app.router.add_get("/readyz", _answer(self._unready))
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, port=port).start()
        return runner

    async def _show_page(self, request: web.Request) -> web.Response:
        if not (self._page_is_public or is_forwarded(request.remote, request.url.host)):
            return web.Response(text=_PAGE_IS_PRIVATE, status=403)
        if why := self._unready():
            return web.Response(text=f"{why}\n", status=503)
        store = self._store
        resources = filter(None, map(store.resource, list(store.resources())))
        text = page(
            resources,
            lambda one: store.pods(ResourceKey(one["metadata"]["namespace"], one["metadata"]["name"])),
            namespace=request.query.get("namespace", ""),
        )
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=HEADERS)

    async def _tell_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _tell_loads(self, _: web.Request) -> web.Response:
        # Apart from /metrics, which must answer at once whatever the pods do.
        measured: dict[ResourceKey, Load] = {}
        if self._load:
            keys = self._to_tell()
            loads = await asyncio.gather(*(self._load(key) for key in keys))
            measured = {key: load for key, load in zip(keys, loads, strict=True) if load}
        return web.Response(body=_loads_text(measured), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _tell_load(self, request: web.Request) -> web.Response:
        key = ResourceKey(request.match_info["namespace"], request.match_info["name"])
        if not self._load:
            return web.json_response({"errors": {"*": "the operator is starting"}}, status=503)
        load = await self._load(key)
        if load is None:
            missing = f"there is no LLMDeployment {key.name} in namespace {key.namespace}, or it is not watched"
            return web.json_response({"errors": {"*": missing}}, status=404)
        values: dict[str, float] = {}
        errors: dict[str, str] = {}
        for metric in Metric:
            try:
                values[metric] = load.value(metric)
            except Unmeasured as error:
                errors[metric] = str(error)
        # A value that is missing is an error to whoever looks for it; a 200 without errors has them all.
        return web.json_response({**values, **({"errors": errors} if errors else {})}, status=200 if values else 503)


def is_forwarded(peer: str | None, host: str | None) -> bool:
    """Tell whether a request came through `kubectl port-forward`, which ends in the pod itself.

    Args:
        peer: the address it came from.
        host: what the browser was asked for. A page of someone else, whose name is made to lead to this machine (DNS
            rebinding), sends its own.
    """
    try:
        address = ip_address(peer or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback and host in _LOCAL_HOSTS


def _answer(finding: Finding) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.StreamResponse:
        why = finding()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    return handler


def _loads_text(loads: Mapping[ResourceKey, Load]) -> bytes:
    """Give the loads of LLMDeployments in Prometheus' text format; what is unmeasured is left out, as it wants it."""
    registry = CollectorRegistry()
    for metric in Metric:
        gauge = Gauge(f"sundog_llmdeployment_{metric}", HELP[metric], ["namespace", "name"], registry=registry)
        for (namespace, name), load in loads.items():
            with suppress(Unmeasured):
                gauge.labels(namespace, name).set(load.value(metric))
    return generate_latest(registry)
