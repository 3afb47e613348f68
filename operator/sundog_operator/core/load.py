"""How busy one LLMDeployment is: what its routers and replicas say of themselves, as one value for each metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import RouterLoad
from sundog_operator.core.view import is_part, is_ready, was_up

T = TypeVar("T")


class Metric(StrEnum):
    """What an autoscaler can ask for, of all replicas of all revisions together."""

    ONGOING_REQUESTS = "ongoing_requests"
    """Requests that do not have their whole answer yet, those that wait included."""
    WAITING_REQUESTS = "waiting_requests"
    """Those of them that no replica has taken: in a router's queue, or held by the head while there is no replica."""
    KV_CACHE_UTILIZATION = "kv_cache_utilization"
    """Share of the KV cache that is in use, from 0 to 1, on average over the replicas; 0 without one."""
    TOKENS_PER_SECOND = "tokens_per_second"
    """Tokens that all replicas generate."""

    @property
    def is_of_routers(self) -> bool:
        """Whether the routers alone measure it; else the replicas alone do."""
        return self in {Metric.ONGOING_REQUESTS, Metric.WAITING_REQUESTS}


class Unmeasured(Exception):  # noqa: N818 it is what the value is
    """A value cannot be had fresh; the message says why, for whoever reads it in an autoscaler's condition."""


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What one replica said."""

    kv_cache_utilization: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Load:
    """What all that were asked said, by pod; a string says why one said nothing."""

    routers: Mapping[str, RouterLoad | str] = field(default_factory=dict)
    replicas: Mapping[str, ReplicaLoad | str] = field(default_factory=dict)

    def value(self, metric: Metric) -> float:
        """Give one value for the whole LLMDeployment.

        Raises:
            Unmeasured: not all who have a part of it have told theirs. A sum without them would be too small, and an
                autoscaler would take replicas away that are busy.
        """
        match metric:
            case Metric.ONGOING_REQUESTS:
                return float(sum(each.ongoing for each in self._routers()))
            case Metric.WAITING_REQUESTS:
                return float(sum(each.waiting for each in self._routers()))
            case Metric.KV_CACHE_UTILIZATION:
                shares = [each.kv_cache_utilization for each in _measured(self.replicas)]
                return sum(shares) / len(shares) if shares else 0.0
            case Metric.TOKENS_PER_SECOND:
                return sum(each.tokens_per_second for each in _measured(self.replicas))

    def _routers(self) -> list[RouterLoad]:
        if not self.routers:
            raise Unmeasured("no router is ready: nobody counts the requests")
        return _measured(self.routers)


def routers_to_ask(pods: Iterable[Manifest]) -> list[Manifest]:
    """Routers that count requests. One that ends has closed its metrics port; the requests it still carries are few."""
    return [pod for pod in _of(pods, names.ROUTER) if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]


def replicas_to_ask(pods: Iterable[Manifest]) -> list[Manifest]:
    """Replicas that have been up, also those that drain: they still generate."""
    return [pod for pod in _of(pods, names.WORKER) if was_up(pod)]


def _of(pods: Iterable[Manifest], component: str) -> list[Manifest]:
    return [
        pod
        for pod in pods
        if is_part(pod, component)
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") not in {"Succeeded", "Failed"}
    ]


def _measured(said: Mapping[str, T | str]) -> list[T]:
    measured: list[T] = []
    for each in said.values():
        if isinstance(each, str):
            raise Unmeasured(each)
        measured.append(each)
    return measured
