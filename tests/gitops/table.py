"""Every state in which an LLMDeployment is shown to GitOps tools, as Sundog writes it, and what they should make of it.

The statuses are computed by the operator's own core over the small world of its unit tests.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sundog_operator.core.names import Manifest
from tests.unit.core.world import Serve, World, resource

ROOT = Path(__file__).parents[2]
BROKEN = "sundog_serving.errors.EngineStartError: EngineArgumentInvalid: max-model-len must be a number; mend it"


@dataclass(frozen=True, slots=True)
class Case:
    """One state."""

    manifest: Manifest
    argo: str
    """Argo CD's word."""
    kstatus: str
    """The word of kstatus, with which Flux and Helm wait."""


def fresh() -> Manifest:
    """As the API server stores it before the operator has seen it: with the CRD's default status."""
    crd = yaml.safe_load((ROOT / "crds" / "sundog.dev_llmdeployments.yaml").read_text())
    default = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["default"]
    return {**resource(), "status": default}


def progressing() -> Manifest:
    world = World(resource(replicas=2))
    world.step()
    world.step()
    return world.resource


def _ready(**spec: Any) -> World:
    world = World(resource(**spec))
    world.converge()
    world.step()
    assert world.ready() == ("True", "AllReplicasReady")
    return world


def ready() -> Manifest:
    return _ready(replicas=2).resource


def edited() -> Manifest:
    """Ready, and its spec has been changed a moment ago."""
    world = _ready()
    world.edit(replicas=3)
    return world.resource


def scaled_to_zero() -> Manifest:
    world = _ready()
    world.edit(replicas=0)
    world.converge()
    world.step()
    assert world.ready() == ("True", "ScaledToZero")
    return world.resource


def waiting_for_a_cure() -> Manifest:
    world = World(resource())
    world.step()
    world.settle(ready=False)
    words = '0/1 nodes are available: persistentvolumeclaim "models" not found.'
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    next(iter(world.pods.values()))["status"] = {"phase": "Pending", "conditions": [condition]}
    world.step()
    assert world.ready() == ("False", "PersistentVolumeClaimNotFound")
    return world.resource


def stalled() -> Manifest:
    world = World(resource())
    world.step()
    world.settle(ready=False)
    world.serves[world.resolved.revision] = Serve(message=BROKEN)
    world.step()  # PUT
    world.serves[world.resolved.revision].status = "DEPLOY_FAILED"
    world.step()
    assert world.ready() == ("False", "EngineArgumentInvalid")
    return world.resource


def too_late() -> Manifest:
    world = World(resource(rollout={"progressDeadlineSeconds": 60}))
    world.step()
    world.settle(ready=False)
    world.now += 61
    world.step()
    assert world.ready() == ("False", "ProgressDeadlineExceeded")
    return world.resource


def suspended() -> Manifest:
    world = _ready(replicas=2)
    world.edit(suspend=True)
    world.converge()
    assert world.ready() == ("True", "Suspended")
    return world.resource


def rolling_out() -> Manifest:
    return _with_another_revision().resource


def rolled_back() -> Manifest:
    """The old revision serves, and what the spec asks for has been withdrawn."""
    world = _with_another_revision()
    world.now += 601
    world.converge()
    assert world.ready() == ("False", "RolledBack")
    return world.resource


def _with_another_revision() -> World:
    world = _ready(replicas=2, rollout={"progressDeadlineSeconds": 600})
    world.edit(engine={"args": {"max-model-len": 1}})
    world.broken.add(world.resolved.revision)
    for _ in range(6):
        world.round()
    assert world.ready() == ("False", "RollingOut")
    return world


def deleting() -> Manifest:
    manifest = copy.deepcopy(ready())
    manifest["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    return manifest


_EXPECTED: dict[Callable[[], Manifest], tuple[str, str]] = {
    fresh: ("Progressing", "InProgress"),
    progressing: ("Progressing", "InProgress"),
    ready: ("Healthy", "Current"),
    edited: ("Progressing", "InProgress"),
    scaled_to_zero: ("Healthy", "Current"),
    suspended: ("Suspended", "Current"),
    waiting_for_a_cure: ("Progressing", "InProgress"),
    stalled: ("Degraded", "Failed"),
    too_late: ("Degraded", "Failed"),
    rolling_out: ("Progressing", "InProgress"),
    rolled_back: ("Degraded", "Failed"),
    deleting: ("Progressing", "Terminating"),
}


def table() -> dict[str, Case]:
    """Give the states by name."""
    return {
        state.__name__: Case(manifest=state(), argo=argo, kstatus=kstatus)
        for state, (argo, kstatus) in _EXPECTED.items()
    }
