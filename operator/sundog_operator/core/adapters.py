"""LoRA adapters: what the replicas are told, what they say of it, and what that means.

Serve carries the list to every replica by its `user_config`, which restarts none, and to each that comes later before
that one is healthy. How far they are is known to the replicas alone: those that may not have the list yet, or not all
of it, are asked, and nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sundog_operator.api.types import Adapter
from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import AdapterState, Observed
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import condition, is_ready, view

CONDITION = "AdaptersReady"
CHANGING = "AdaptersChanging"
LOADED = "loaded"
FAILED = "failed"
# A list reaches all replicas within seconds; to load one takes longer, and the cause of a failure (files that are still
# being copied, a hub that is away) longest.
CHANGING_LOOK_AGAIN_SECONDS = 1.0
LOADING_LOOK_AGAIN_SECONDS = 2.0
FAILED_LOOK_AGAIN_SECONDS = 30.0


def lora_arguments(resolved: Resolved) -> dict[str, Any]:
    """What an engine must know before it starts; empty without `spec.model.lora`."""
    lora = resolved.spec.model.lora
    return {"lora": {"max_rank": lora.max_rank, "max_adapters": lora.max_adapters}} if lora else {}


def user_config(resolved: Resolved) -> dict[str, Any]:
    """What Serve hands on to running replicas; empty without `spec.model.lora`."""
    lora = resolved.spec.model.lora
    return {"user_config": {"adapters": [_entry(resolved, adapter) for adapter in lora.adapters]}} if lora else {}


def _entry(resolved: Resolved, adapter: Adapter) -> dict[str, Any]:
    location = adapter.location
    path = None
    if location.scheme == "pvc":
        path = f"{resolved.mounts.get(location.authority, names.MODEL_MOUNT)}/{location.path}".rstrip("/")
    return {"name": adapter.name, "uri": str(location), "path": path, "revision": adapter.revision}


def identity(pod: Manifest) -> tuple[str, int]:
    """What an answer of a replica is good for: this pod, until its container starts afresh."""
    restarts = sum(status.get("restartCount", 0) for status in pod.get("status", {}).get("containerStatuses", []))
    return str(pod["metadata"]["uid"]), restarts


def replicas_to_ask(
    resolved: Resolved, observed: Observed, known: Mapping[tuple[str, int], tuple[AdapterState, ...]]
) -> list[Manifest]:
    """Replicas whose answer this pass needs: all that are ready, but those that are known to have all of the list."""
    served, replicas = _serving(resolved, observed)
    return [pod for pod in replicas if not _is_final(served, known.get(identity(pod)))]


def _serving(resolved: Resolved, observed: Observed) -> tuple[Resolved, list[Manifest]]:
    """Give the LLMDeployment as it is with the revision that is to serve, and the replicas of that which are ready.

    One that was gone back to may have no room for adapters.
    """
    goal = view(resolved, observed).goal
    served = goal.resolved or resolved
    return served, [pod for pod in goal.pods if is_ready(pod)] if served.spec.model.lora else []


def _is_final(resolved: Resolved, said: tuple[AdapterState, ...] | str | None) -> bool:
    return isinstance(said, tuple) and _has_heard(resolved, said) and all(each.state == LOADED for each in said)


def _has_heard(resolved: Resolved, said: tuple[AdapterState, ...] | str | None) -> bool:
    """Whether a replica speaks of the list as it is wanted now."""
    if said is None or isinstance(said, str):
        return False
    wanted = {(entry["name"], entry["uri"], entry["revision"]) for entry in _wanted(resolved)}
    return {(each.name, each.uri, each.revision) for each in said} == wanted


def _wanted(resolved: Resolved) -> list[dict[str, Any]]:
    return list(user_config(resolved).get("user_config", {}).get("adapters", ()))


@dataclass(frozen=True, slots=True)
class _Count:
    """How far one adapter is, over all replicas."""

    name: str
    loaded: int
    replicas: int
    failures: tuple[str, ...]

    @property
    def state(self) -> str:
        if self.failures:
            return "Failed"
        return "Loaded" if self.loaded == self.replicas else "Loading"


def _counts(served: Resolved, observed: Observed, replicas: list[str]) -> Iterator[_Count]:
    for entry in _wanted(served):
        said = [
            each
            for pod in replicas
            for each in _states(observed, pod)
            if (each.name, each.uri, each.revision) == (entry["name"], entry["uri"], entry["revision"])
        ]
        yield _Count(
            name=entry["name"],
            loaded=sum(each.state == LOADED for each in said),
            replicas=len(replicas),
            failures=tuple(each.message for each in said if each.state == FAILED),
        )


def _names(pods: list[Manifest]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


def _states(observed: Observed, pod: str) -> tuple[AdapterState, ...]:
    said = observed.adapters.get(pod, ())
    return () if isinstance(said, str) else said


def adapters_status(resolved: Resolved, observed: Observed) -> dict[str, Any]:
    """`status.adapters`; empty without `spec.model.lora`."""
    served, replicas = _serving(resolved, observed)
    if served.spec.model.lora is None:
        return {}
    rows = []
    for count in _counts(served, observed, _names(replicas)):
        row = {"name": count.name, "state": count.state, "loaded": count.loaded, "replicas": count.replicas}
        rows.append({**row, "message": count.failures[0]} if count.failures else row)
    return {"adapters": rows}


def adapters_ready(resolved: Resolved, observed: Observed) -> tuple[str, str, str] | None:
    """Status, reason and message of the condition; None without `spec.model.lora`. The model itself is not in it."""
    served, pods = _serving(resolved, observed)
    if served.spec.model.lora is None:
        return None
    replicas = _names(pods)
    unheard = [pod for pod in replicas if not _has_heard(served, observed.adapters.get(pod))]
    if unheard:
        said = observed.adapters.get(unheard[0])
        why = f": {said}" if isinstance(said, str) else ""
        told = len(replicas) - len(unheard)
        return "False", CHANGING, f"{told} of {len(replicas)} replicas have taken the list of adapters{why}"
    counts = list(_counts(served, observed, replicas))
    if failed := next((count for count in counts if count.failures), None):
        many = sum(bool(count.failures) for count in counts)
        more = f" (and {many - 1} more, see status.adapters)" if many > 1 else ""
        where = f"{len(failed.failures)} of {failed.replicas} replicas"
        return "False", "AdapterFailed", f"adapter {failed.name} is not on {where}: {failed.failures[0]}{more}"
    if loading := next((count for count in counts if count.loaded < count.replicas), None):
        return (
            "False",
            "AdaptersLoading",
            f"{loading.loaded} of {loading.replicas} replicas have adapter {loading.name}",
        )
    if not replicas:
        message = "there is no replica; each loads its adapters before it answers"
    elif not counts:
        message = "no adapter is asked for"
    else:
        message = f"{len(replicas)} of {len(replicas)} replicas have all adapters"
    return "True", "AdaptersLoaded", message


def seconds_to_look_again(resolved: Resolved, observed: Observed) -> float | None:
    """No watch tells what replicas load."""
    waits = {
        CHANGING: CHANGING_LOOK_AGAIN_SECONDS,
        "AdaptersLoading": LOADING_LOOK_AGAIN_SECONDS,
        "AdapterFailed": FAILED_LOOK_AGAIN_SECONDS,
    }
    ready = adapters_ready(resolved, observed)
    return waits.get(ready[1]) if ready else None


def is_under_way(resolved: Resolved, observed: Observed) -> bool:
    """Whether a replica was seen that had not taken the list: perhaps its head was never told."""
    served, _ = _serving(resolved, observed)
    return served.spec.model.lora is not None and condition(observed.resource, CONDITION).get("reason") in {
        None,
        CHANGING,
    }
