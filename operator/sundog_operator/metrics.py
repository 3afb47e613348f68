"""What the operator tells Prometheus: counters of its own work."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Every metric of the operator, with a method per thing that happens."""

    def __init__(self) -> None:
        """Register the metrics, with a registry of their own."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._passes = Counter(
            "sundog_passes_total", "Passes over an LLMDeployment.", ["result"], registry=self.registry
        )
        self._pass_seconds = Histogram(
            "sundog_pass_seconds", "Duration of a pass, its writes included.", buckets=_SECONDS, registry=self.registry
        )
        self._requests = Counter(
            "sundog_api_requests_total",
            "Requests to the Kubernetes API but for watches; status is the HTTP status, or 'error'.",
            ["verb", "kind", "status"],
            registry=self.registry,
        )
        self._ray_requests = Counter(
            "sundog_ray_requests_total",
            "Requests to Ray heads; status is the HTTP status, or 'error'.",
            ["request", "status"],
            registry=self.registry,
        )
        self._waiting = Gauge(
            "sundog_queue_waiting",
            "LLMDeployments that wait for a pass, those of later included.",
            registry=self.registry,
        )
        self._running = Gauge("sundog_queue_running", "Passes under way.", registry=self.registry)
        self._waited = Histogram(
            "sundog_queue_wait_seconds",
            "From when a pass was due to its beginning.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._leading = Gauge(
            "sundog_leading", "1 while this process holds the Lease and may write.", registry=self.registry
        )
        self._lost = Counter(
            "sundog_watch_losses_total",
            "LLMDeployments for which the watches had lost something.",
            registry=self.registry,
        )
        self._resources = Gauge(
            "sundog_resources",
            "LLMDeployments by the status of their Ready condition.",
            ["ready"],
            registry=self.registry,
        )
        self._readiness: dict[tuple[str, str], str] = {}
        self._load_requests = Counter(
            "sundog_load_requests_total",
            "Requests to routers and replicas for their load; status is the HTTP status, or 'error'.",
            ["asked", "status"],
            registry=self.registry,
        )

    def pass_done(self, result: str, seconds: float) -> None:
        """Count a pass: `unchanged`, `changed` or `failed`."""
        self._passes.labels(result).inc()
        self._pass_seconds.observe(seconds)

    def api_request(self, verb: str, kind: str, status: str) -> None:
        """Count a request to the Kubernetes API."""
        self._requests.labels(verb, kind, status).inc()

    def ray_request(self, request: str, status: str) -> None:
        """Count a request to a Ray head."""
        self._ray_requests.labels(request, status).inc()

    def queue_changed(self, *, waiting: int, running: int) -> None:
        """Set the queue's depth."""
        self._waiting.set(waiting)
        self._running.set(running)

    def taken(self, waited_seconds: float) -> None:
        """Count how long a pass had been due."""
        self._waited.observe(max(0.0, waited_seconds))

    def lost(self, resources: int) -> None:
        """Count what a comparison with the API server found."""
        self._lost.inc(resources)

    def watch_leading(self, seconds_left: Callable[[], float]) -> None:
        """Tell from now on whether this process may write, by the seconds for which it still may."""
        self._leading.set_function(lambda: float(seconds_left() > 0))

    def readiness(self, key: tuple[str, str], ready: str | None) -> None:
        """Set the Ready condition's status of an LLMDeployment; None: it is gone."""
        if ready is None:
            self._readiness.pop(key, None)
        else:
            self._readiness[key] = ready

    def load_request(self, asked: str, status: str) -> None:
        """Count a request to a router or a replica."""
        self._load_requests.labels(asked, status).inc()

    def text(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        by_readiness = Tally(self._readiness.values())
        for ready in ("True", "False", "Unknown"):
            self._resources.labels(ready).set(by_readiness[ready])
        return generate_latest(self.registry)
