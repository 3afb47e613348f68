"""The operator's process: wiring only."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from sundog_operator import logs, metrics
from sundog_operator.config import Config, ConfigError, from_environment
from sundog_operator.controller import Controller, Foreign
from sundog_operator.core.telemetry import Telemetry, telemetry
from sundog_operator.custom_metrics.registration import Registration
from sundog_operator.custom_metrics.server import CustomMetricsServer
from sundog_operator.handlers import Watches
from sundog_operator.http_server import HTTPServer
from sundog_operator.kube import master_key
from sundog_operator.kube.client import Client
from sundog_operator.kube.connection import connect
from sundog_operator.kube.errors import KubeError, NotLeading
from sundog_operator.kube.lease import KubeLease
from sundog_operator.kube.listing import CannotStart, prime
from sundog_operator.kube.mending import Mender
from sundog_operator.kube.store import ResourceKey, Store
from sundog_operator.leader import Leader, LeaseLost
from sundog_operator.meter import Meter
from sundog_operator.ray.client import HeadClient, HeadError
from sundog_operator.workqueue import WorkQueue

log = structlog.get_logger("sundog_operator")
T = TypeVar("T")

STREAMED_LISTS_SINCE: Final = (1, 34)
FINISH_SECONDS: Final = 5.0
"""For the passes under way when the process is told to end: a write takes milliseconds, a head up to 5 s."""
_LONGEST_START_PAUSE_SECONDS: Final = 5.0


def main() -> int:
    """Run the operator; gives the process's exit code."""
    try:
        config = from_environment(os.environ)
        logs.configure(config.log_level)
    except (ConfigError, ValueError) as error:
        print(f"Wrong configuration: {error}", file=sys.stderr)  # noqa: T201 there are no logs yet
        return 2
    try:
        asyncio.run(_Operator(config).run())
    except (CannotStart, KubeError, LeaseLost, NotLeading, OSError) as error:
        log.critical(str(error))
        return 1
    return 0


class _Operator:
    """The parts of the process, and in which order they begin and end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._metrics = metrics.Metrics()
        self._store = Store()
        self._queue: WorkQueue[ResourceKey] = WorkQueue(
            self._reconcile, observer=self._metrics, on_failure=_tell_failure
        )
        self._controller: Controller | None = None
        self._leader: Leader | None = None
        self._watches: Watches | None = None
        self._stop = asyncio.Event()
        self._master_key = b""
        self._http = HTTPServer(
            self._metrics,
            self._store,
            page_is_public=config.page_public,
            ill=lambda: self._watches.ill() if self._watches else None,
            unready=lambda: None if self._watches else "the first lists are being read",
        )
        self._metrics.watch_leading(self._seconds_to_write)
        self._metrics.tell_lease(lambda: self._leader.transitions() if self._leader else None)
        self._metrics.tell_resources(self._telemetry)

    async def run(self) -> None:
        """Work until told to end, then let the passes under way finish and give the Lease back."""
        self._take_signals()
        work = asyncio.create_task(self._work())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self._queue.stop()
        if self._controller:
            await asyncio.wait({work}, timeout=FINISH_SECONDS)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def _work(self) -> None:
        http = await self._http.start(self._config.http_port)
        try:
            await self._operate()
        finally:
            await http.cleanup()

    async def _operate(self) -> None:
        config, store, queue = self._config, self._store, self._queue
        connection, count = await connect(), self._metrics.api_request
        client = Client(connection, guard=self._seconds_to_write, observer=count)
        # On its own, so that a renewal never waits behind writes that hang.
        lease_client = Client(connection, guard=self._seconds_to_write, observer=count, connections=1)
        lease = KubeLease(lease_client, config.namespace)
        leader = self._leader = Leader(lease, identity=config.identity, lease_seconds=config.lease_seconds)
        heads = HeadClient(
            url_template=config.head_url_template,
            cluster_domain=config.cluster_domain,
            observer=self._metrics.ray_request,
        )
        meter = Meter(
            store,
            master_key=lambda: self._master_key,
            url_template=config.pod_url_template,
            observer=self._metrics.load_request,
        )
        async with client, lease_client, heads, meter:
            kubernetes = await self._patiently(client.server_version)
            versions = await self._patiently(lambda: prime(client, store, namespaces=config.watch_namespaces))
            mender = Mender(
                client,
                store,
                namespaces=config.watch_namespaces,
                on_news=queue.add,
                on_lost=self._metrics.lost,
            )
            # Those that do not lead watch as well: a take-over then costs no list, and a missing permission shows at
            # the start of every replica instead of at the worst moment. What they hear waits in the queue.
            self._watches = Watches(
                connection,
                store,
                namespaces=config.watch_namespaces,
                versions=versions if kubernetes >= STREAMED_LISTS_SINCE else None,
                on_news=queue.add,
                on_gap=mender.gap,
                on_spawned=self._take_signals,
            )
            log.info("started", kubernetes=".".join(map(str, kubernetes)), objects=store.count())
            parts = (
                self._watches.run(),
                mender.run(),
                self._lead(client, leader, heads, meter),
                self._measure(client, meter),
            )
            await _until_one_ends(*parts, stop=self._watches.stop)

    async def _measure(self, client: Client, meter: Meter) -> None:
        """Answer with loads, whether this process leads or not."""
        config = self._config
        self._master_key = await self._patiently(lambda: master_key.read(client, config.namespace))
        # Told by one process only: sums over all of them would count twice.
        self._http.measure(meter.load, self._led)
        if not config.custom_metrics_service:
            await asyncio.Event().wait()
        host = f"{config.custom_metrics_service}.{config.namespace}.svc"
        await CustomMetricsServer(
            client,
            measure=meter.value,
            keys=self._store.resources,
            master_key=self._master_key,
            names=[host, f"{host}.{config.cluster_domain}"],
            port=config.custom_metrics_port,
        ).run()

    async def _lead(self, client: Client, leader: Leader, heads: HeadClient, meter: Meter) -> None:
        try:
            await leader.acquire()
            log.info("leading", identity=leader.identity)
            await _until_one_ends(leader.keep(), self._pass_over_all(client, heads, meter))
        finally:
            await leader.release()

    async def _pass_over_all(self, client: Client, heads: HeadClient, meter: Meter) -> None:
        key = await self._patiently(lambda: master_key.read_or_create(client, self._config.namespace))
        registration = Registration(client, self._config, master_key=key, on_change=self._look_at_all)
        self._controller = Controller(
            config=self._config,
            store=self._store,
            client=client,
            heads=heads,
            meter=meter,
            master_key=key,
            observer=self._metrics,
            custom_metrics_trouble=lambda: registration.trouble,
        )
        await registration.look()
        self._look_at_all()
        await _until_one_ends(registration.keep(), self._queue.run(), meter.watch_for_demand(self._queue.add))

    def _look_at_all(self) -> None:
        for key in self._store.resources():
            self._queue.add(key)

    async def _reconcile(self, key: ResourceKey) -> float | None:
        assert self._controller is not None, "the queue runs only while this process leads"
        return await self._controller.reconcile(key)

    def _led(self) -> list[ResourceKey]:
        """Name what this process is to tell Prometheus of: all where it leads, else nothing."""
        return list(self._store.resources()) if self._seconds_to_write() > 0 else []

    def _telemetry(self) -> list[Telemetry]:
        found = ((key, self._store.resource(key)) for key in self._led())
        return [telemetry(resource, self._store.children(key)) for key, resource in found if resource]

    def _seconds_to_write(self) -> float:
        return self._leader.seconds_left() if self._leader else 0.0

    async def _patiently(self, request: Callable[[], Awaitable[T]]) -> T:
        """Try until the API server answers, for a while."""
        deadline = time.monotonic() + self._config.start_seconds
        pause = 0.5
        while True:
            try:
                return await request()
            except KubeError as error:
                if not error.transient:
                    raise
                if time.monotonic() + pause > deadline:
                    raise KubeError(
                        f"Giving up after {self._config.start_seconds} s without an API server: {error}"
                    ) from error
                log.warning("waiting for the API server", cause=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_START_PAUSE_SECONDS)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)


async def _until_one_ends(*parts: Awaitable[None], stop: Callable[[], None] = lambda: None) -> None:
    """Run parts that belong together: when one ends, well or not, so do the others, and its error is raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _tell_failure(key: ResourceKey, cause: Exception, delay: float) -> None:
    about = {"namespace": key.namespace, "name": key.name, "retry_seconds": round(delay, 1)}
    if isinstance(cause, NotLeading):
        return
    if isinstance(cause, (KubeError, HeadError, Foreign)):
        log.warning("pass failed", cause=str(cause), **about)
    else:
        log.error("pass failed", exc_info=cause, **about)


if __name__ == "__main__":
    sys.exit(main())
