"""What the operator tells Prometheus: counters of its own work, and how each LLMDeployment is."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric

from sundog_operator.core.telemetry import Telemetry

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

    def tell_resources(self, telemetry: Callable[[], Sequence[Telemetry]]) -> None:
        """Tell from now on how each LLMDeployment is.

        Args:
            telemetry: gives those that this process is to tell: all where it leads, else none, since sums over all
                processes would count twice.
        """
        self.registry.register(_Resources(telemetry))

    def tell_lease(self, transitions: Callable[[], int | None]) -> None:
        """Tell from now on how often the Lease has changed hands; None: this process does not hold it."""
        self.registry.register(_Lease(transitions))

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


class _Collector(Protocol):
    """As prometheus_client asks for metrics; those without `describe` are not asked when they are registered."""

    def collect(self) -> Iterable[Metric]:
        """Give what there is now."""

    def describe(self) -> Iterable[Metric]:
        """Give no names: they are not looked for before the first scrape."""


class _Lease(_Collector):
    def __init__(self, transitions: Callable[[], int | None]) -> None:
        self._transitions = transitions

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        if (transitions := self._transitions()) is not None:
            text = "How often the operator's Lease has changed hands, told by who holds it."
            yield GaugeMetricFamily("sundog_lease_transitions", text, value=transitions)


class _Resources(_Collector):
    def __init__(self, telemetry: Callable[[], Sequence[Telemetry]]) -> None:
        self._telemetry = telemetry

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        all_told = self._telemetry()
        yield _gauge("desired_replicas", "Replicas that are asked for.", all_told, lambda each: each.desired_replicas)
        yield _gauge("ready_replicas", "Replicas that answer.", all_told, lambda each: each.ready_replicas)
        yield _gauge(
            "max_replicas", "spec.autoscaling.maxReplicas, where it is set.", all_told, lambda each: each.max_replicas
        )
        yield _gauge(
            "revisions",
            "Revisions that have replicas: two and more in a rollout.",
            all_told,
            lambda each: each.revisions,
        )
        yield _gauge(
            "head_state_volatile",
            "1 where a Ray head keeps its state in its pod: a head that is lost then restarts the replicas.",
            all_told,
            lambda each: int(each.head_state_is_volatile),
        )
        yield from _labelled(all_told)


def _gauge(
    name: str, text: str, all_told: Sequence[Telemetry], value: Callable[[Telemetry], int | None]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"sundog_llmdeployment_{name}", text, labels=["namespace", "name"])
    for each in all_told:
        if (number := value(each)) is not None:
            family.add_metric([each.namespace, each.name], number)
    return family


def _labelled(all_told: Sequence[Telemetry]) -> Iterable[GaugeMetricFamily]:
    place = ["namespace", "name"]
    condition = GaugeMetricFamily(
        "sundog_llmdeployment_condition",
        "1 for each condition as it is; its reason tells what is waited for.",
        labels=[*place, "type", "status", "reason"],
    )
    scaled = GaugeMetricFamily(
        "sundog_llmdeployment_last_scaling_timestamp_seconds",
        "When the number of replicas was changed last, and by whom.",
        labels=[*place, "who"],
    )
    target = GaugeMetricFamily(
        "sundog_llmdeployment_slo_seconds",
        "What spec.slo promises; le is the bound of the histogram at which it is counted.",
        labels=[*place, "objective", "le"],
    )
    share = GaugeMetricFamily(
        "sundog_llmdeployment_slo_share",
        "Share of the requests, or of the tokens, that spec.slo promises it for.",
        labels=[*place, "objective"],
    )
    for each in all_told:
        where = [each.namespace, each.name]
        for kind_status_reason in each.conditions:
            condition.add_metric([*where, *kind_status_reason], 1)
        if each.last_scaling:
            scaled.add_metric([*where, each.last_scaling[0]], each.last_scaling[1])
        for objective in each.objectives:
            target.add_metric([*where, objective.name, objective.bound], objective.seconds)
            share.add_metric([*where, objective.name], objective.share)
    return condition, scaled, target, share
