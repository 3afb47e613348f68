"""Serves the custom metrics API: TLS, who asks and whether they may, and one value per question."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from sundog_operator.core.load import Metric, Unmeasured
from sundog_operator.custom_metrics import answers, front_proxy
from sundog_operator.custom_metrics.certificates import RENEWAL_SECONDS, KeyPair, server_certificate
from sundog_operator.custom_metrics.front_proxy import FrontProxy, NoFrontProxy, User, read_front_proxy
from sundog_operator.kube.client import Client
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.store import ResourceKey

log = structlog.get_logger()

LOOK_SECONDS: Final = 60.0
"""Between two looks at how the API server is known, and at the age of the own certificate."""
DECISION_SECONDS: Final = 10.0
"""For so long a user's right is remembered, as Kubernetes' own extensions do."""
DECISIONS: Final = 1024

Measure = Callable[[ResourceKey, Metric], Awaitable[float | None]]


@dataclass(frozen=True, slots=True)
class _Question:
    user: User
    namespace: str
    name: str
    metric: str


class CustomMetricsServer:
    """One listener; begun anew when the certificate or the trusted authorities change, which cuts no connection."""

    def __init__(
        self,
        client: Client,
        *,
        measure: Measure,
        keys: Callable[[], Iterable[ResourceKey]],
        master_key: bytes,
        names: Sequence[str],
        port: int,
        unix_time: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            client: of the API server.
            measure: gives one metric of an LLMDeployment, or raises Unmeasured; None: there is none.
            keys: all LLMDeployments that are served.
            master_key: what the certificate's authority is derived from.
            names: DNS names of the Service in front.
            port: where to listen, on all addresses.
            unix_time: seconds since 1970.
            clock: seconds that grow.
        """
        self._client = client
        self._measure = measure
        self._keys = keys
        self._master_key = master_key
        self._names = names
        self._port = port
        self._unix_time = unix_time
        self._clock = clock
        self._front_proxy: FrontProxy | None = None
        self._certified_at = float("-inf")
        self._decisions: dict[_Question, tuple[bool, float]] = {}

    async def run(self) -> None:
        """Serve until cancelled; where the API server can't be known, say so and look again.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(middlewares=[_with_refusals])
        app.router.add_get(answers.PATH, self._list)
        app.router.add_get(
            answers.PATH + "/namespaces/{namespace}/" + answers.RESOURCE + "/{name}/{metric}", self._value
        )
        app.router.add_route("*", "/{path:.*}", _nothing_there)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        site: web.TCPSite | None = None
        try:
            while True:
                context = await self._renewed()
                if context:
                    if site:
                        await site.stop()
                    site = web.TCPSite(runner, port=self._port, ssl_context=context)
                    await site.start()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await runner.cleanup()

    async def _renewed(self) -> ssl.SSLContext | None:
        """Give a TLS context where a new one is needed."""
        try:
            found = await self._client.get("ConfigMap", namespace=front_proxy.NAMESPACE, name=front_proxy.NAME)
            known = read_front_proxy(found)
        except (KubeError, NoFrontProxy) as error:
            log.warning("custom metrics: the API server cannot be known", cause=str(error))
            if self._front_proxy is None:
                return None
            known = self._front_proxy
        now = self._unix_time()
        if known == self._front_proxy and now - self._certified_at < RENEWAL_SECONDS:
            return None
        self._front_proxy, self._certified_at = known, now
        return _context(server_certificate(self._master_key, self._names, unix_seconds=now), known)

    async def _list(self, request: web.Request) -> web.Response:
        self._require_front_proxy(request)
        return web.json_response(answers.resource_list())

    async def _value(self, request: web.Request) -> web.Response:
        self._require_front_proxy(request)
        namespace, name, asked = (request.match_info[key] for key in ("namespace", "name", "metric"))
        await self._require_right(request, namespace, name, asked)
        if asked not in set(Metric):
            known = ", ".join(Metric)
            raise _Refused(404, "NotFound", f"there is no metric {asked} of LLMDeployments; there are {known}")
        if request.query.get("metricLabelSelector"):
            raise _Refused(400, "BadRequest", "these metrics have no labels: leave metric.selector out")
        values = await self._values(namespace, name, Metric(asked))
        return web.json_response(answers.metric_values(Metric(asked), values, unix_seconds=self._unix_time()))

    async def _values(self, namespace: str, name: str, metric: Metric) -> dict[tuple[str, str], float]:
        every = name == "*"
        keys = [key for key in self._keys() if key.namespace == namespace] if every else [ResourceKey(namespace, name)]
        measured = await asyncio.gather(*(self._measured(key, metric) for key in keys))
        values: dict[tuple[str, str], float] = {
            key: value for key, value in zip(keys, measured, strict=True) if value is not None
        }
        if not values and not every:
            raise _Refused(404, "NotFound", f'there is no LLMDeployment "{name}" in namespace "{namespace}"')
        return values

    async def _measured(self, key: ResourceKey, metric: Metric) -> float | None:
        try:
            return await self._measure(key, metric)
        except Unmeasured as error:
            unknown = f"{metric} of LLMDeployment {key.name} is unknown: {error}"
            raise _Refused(503, "ServiceUnavailable", unknown) from None

    def _require_front_proxy(self, request: web.Request) -> None:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        assert self._front_proxy
        if not self._front_proxy.admits(certificate):
            refusal = "only the API server may ask here, with its front-proxy certificate"
            raise _Refused(401, "Unauthorized", refusal)

    async def _require_right(self, request: web.Request, namespace: str, name: str, metric: str) -> None:
        assert self._front_proxy
        user = self._front_proxy.user(list(request.headers.items()))
        if user is None:
            raise _Refused(401, "Unauthorized", "the request names no user")
        try:
            allowed = await self._may(_Question(user, namespace, name, metric))
        except KubeError as error:
            unknown = f"whether that is allowed could not be found out: {error}"
            raise _Refused(503, "ServiceUnavailable", unknown) from None
        if not allowed:
            refusal = f'user "{user.name}" may not get {metric} of {answers.RESOURCE} "{name}"'
            raise _Refused(403, "Forbidden", refusal)

    async def _may(self, question: _Question) -> bool:
        allowed, until = self._decisions.get(question, (False, float("-inf")))
        if self._clock() < until:
            return allowed
        user = question.user
        allowed = await self._client.review_access(
            {
                "user": user.name,
                "groups": list(user.groups),
                "extra": {key: list(values) for key, values in user.extra},
                "resourceAttributes": {
                    "group": answers.GROUP,
                    "version": answers.VERSION,
                    "resource": answers.RESOURCE,
                    "subresource": question.metric,
                    "namespace": question.namespace,
                    "name": question.name,
                    "verb": "get",
                },
            }
        )
        if len(self._decisions) >= DECISIONS:
            self._decisions.clear()
        self._decisions[question] = allowed, self._clock() + DECISION_SECONDS
        return allowed


def _context(own: KeyPair, known: FrontProxy) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=known.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # `ssl` reads files only, and nothing in the operator's pod can be written to: a file in memory.
    with os.fdopen(os.memfd_create("custom-metrics-certificate"), "wb", buffering=0) as file:
        file.write(own.certificate + own.key)
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


async def _nothing_there(request: web.Request) -> web.Response:
    raise _Refused(404, "NotFound", f"there is nothing at {request.path}")


class _Refused(Exception):  # noqa: N818 it is what a question was
    """A question that gets no value."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.answer = answers.failure(code, reason, message)


@web.middleware
async def _with_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Refused as refused:
        return web.json_response(refused.answer, status=refused.code)
