"""Rollouts as whole passes: what is written, what is told, what is taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sundog_operator.core import names
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.names import ObjectKey
from sundog_operator.core.resolve import FORMING
from sundog_operator.core.writes import Apply, Delete, PutServe
from tests.unit.core.world import World, resource

GOOD: dict[str, Any] = {"args": {"max-model-len": 1024}}
BAD: dict[str, Any] = {"args": {"max-model-len": 1}}
ERROR = "sundog_serving.errors.EngineStartError: EngineArgumentInvalid: max-model-len must be 8 or more"


@pytest.fixture
def served() -> World:
    world = World(resource(replicas=3, rollout={"progressDeadlineSeconds": 600}))
    world.converge()
    return world


def message(world: World, kind: str = "Ready") -> str:
    return next(str(c["message"]) for c in world.resource["status"]["conditions"] if c["type"] == kind)


def change(world: World, *, broken: bool = False, **spec: Any) -> tuple[str, str]:
    """Edit the spec; gives the hashes of the revision before and of the new one."""
    old = world.resolved.revision
    world.edit(**spec)
    new = world.resolved.revision
    if broken:
        world.broken.add(new)
    return old, new


def states(world: World) -> dict[str, str]:
    return {each["hash"]: each["state"] for each in world.resource["status"]["revisions"]}


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (2, 0), (0, 1), (1, 1)])
def test_a_rollout_keeps_its_bounds_at_every_pass(surge: int, unavailable: int) -> None:
    world = World(resource(replicas=3, rollout={"maxSurge": surge, "maxUnavailable": unavailable}))
    world.converge()
    world.readiness_lags = True
    _, new = change(world, engine=GOOD)
    for number in range(120):
        world.step()
        world.settle()
        if number % 3 == 2:
            world.drain_ends()
        serving = sum(state == "RUNNING" for serve in world.serves.values() for state in serve.replicas.values())
        assert serving >= 3 - unavailable
        assert len(world.pods) <= 3 + surge
        if world.ready() == ("True", "AllReplicasReady"):
            break
    assert world.workers() == {f"qwen3-{new}-worker": 3}


def test_an_error_that_no_waiting_cures_takes_the_revision_back_at_once(served: World) -> None:
    before = set(served.pods)
    old, new = change(served, broken=True, engine=BAD)
    served.round()
    served.round()
    served.serves[new].message = ERROR
    for _ in range(20):
        served.round()
        assert served.conditions()["Available"] == "True"
    assert served.ready() == ("False", "RolledBack")
    assert served.conditions()["Stalled"] == "True"
    assert "Reconciling" not in served.conditions()
    assert "max-model-len must be 8 or more" in message(served)
    assert f"revision {old} is kept until the spec changes" in message(served)
    assert served.workers() == {f"qwen3-{old}-worker": 3}
    assert set(served.pods) == before, "no replica of the old revision was touched"
    assert states(served) == {new: "Withdrawn", old: "Serving"}
    assert served.step().writes == ()


def test_a_revision_that_is_not_ready_in_time_is_taken_back(served: World) -> None:
    old, _ = change(served, broken=True, engine=BAD)
    for _ in range(6):
        served.round()
    assert served.ready() == ("False", "RollingOut")
    served.now += 601
    served.step()
    assert served.ready()[1] == "RolledBack"
    assert "spec.rollout.progressDeadlineSeconds (600 s)" in message(served)
    served.converge()
    assert served.workers() == {f"qwen3-{old}-worker": 3}


def test_nothing_is_tried_again_until_the_spec_changes_and_then_it_is(served: World) -> None:
    old, new = change(served, broken=True, engine=BAD)
    for _ in range(4):
        served.round()
    served.now += 601
    served.converge()
    for edit in ({"replicas": 2}, {"router": {"maxQueue": 9}}):
        served.edit(**edit)
        served.now += 5000
        served.converge()
        assert served.ready() == ("False", "RolledBack")
        assert not [key for key in served.children if new in key.name and key.kind != "ControllerRevision"]
    assert served.workers() == {f"qwen3-{old}-worker": 2}
    change(served, engine=GOOD)
    served.converge()
    assert served.ready() == ("True", "AllReplicasReady")
    served.broken.clear()
    change(served, engine=BAD)
    served.converge()
    assert served.ready() == ("True", "AllReplicasReady"), "it may be tried again once another was asked for"


def test_the_withdrawal_outlives_the_operator_and_can_be_lifted_by_hand(served: World) -> None:
    _, new = change(served, broken=True, engine=BAD)
    for _ in range(4):
        served.round()
    served.now += 601
    served.converge()
    entry = ObjectKey("ControllerRevision", f"qwen3-{new}")
    told = json.loads(served.children[entry]["metadata"]["annotations"][names.WITHDRAWN_ANNOTATION])
    assert told["reason"] == "ProgressDeadlineExceeded"
    assert told["generation"] == served.resource["metadata"]["generation"]
    served.resource["status"] = {}  # nothing else is known of it
    served.converge()
    assert served.ready() == ("False", "RolledBack")
    del served.children[entry]
    served.broken.clear()
    served.converge()
    assert served.ready() == ("True", "AllReplicasReady")
    assert served.resolved.revision == new


def test_replicas_that_crash_after_they_served_take_the_revision_back(served: World) -> None:
    old, new = change(served, engine=GOOD)
    for _ in range(4):
        served.round()
    served.broken.add(new)
    pod = next(p for p in served.pods.values() if p["metadata"]["labels"][names.REVISION_LABEL] == new)
    served.crash(pod, restarts=1)
    served.step()
    assert served.ready()[1] != "RolledBack", "once may be the node's fault"
    served.crash(pod, restarts=2, code=137)
    served.converge()
    assert served.ready() == ("False", "RolledBack")
    assert "was restarted 2 times (at last: Error, exit code 137)" in message(served)
    assert served.workers() == {f"qwen3-{old}-worker": 3}


def test_a_revision_that_crashes_soon_after_its_rollout_is_taken_back_too() -> None:
    """The old one is built anew from what is remembered of it."""
    world = World(resource(replicas=1, rollout={"progressDeadlineSeconds": 600}))
    world.converge()
    old, new = change(world, engine=GOOD)
    world.converge()
    assert list(world.workers()) == [f"qwen3-{new}-worker"]
    world.broken.add(new)
    (pod,) = world.pods.values()
    world.crash(pod, restarts=2)
    world.converge()
    assert world.ready() == ("False", "RolledBack")
    assert world.workers() == {f"qwen3-{old}-worker": 1}
    config = world.serves[old].config
    assert config is not None
    assert config["applications"][0]["args"]["engine_args"] == {}


def test_a_revision_that_has_long_served_is_not_taken_back(served: World) -> None:
    change(served, engine=GOOD)
    served.converge()
    served.now += 601
    served.crash(next(iter(served.pods.values())), restarts=9)
    served.step()
    assert served.ready() == ("False", "ReplicasStarting")


def test_without_a_revision_that_served_nothing_is_taken_back() -> None:
    world = World(resource(rollout={"progressDeadlineSeconds": 60}))
    world.broken.add(world.resolved.revision)
    for _ in range(4):
        world.round()
    world.now += 61
    world.step()
    assert world.ready() == ("False", "ProgressDeadlineExceeded")
    assert world.workers() == {f"qwen3-{world.resolved.revision}-worker": 1}
    change(world, engine=GOOD)  # the cure
    world.converge()
    assert world.ready() == ("True", "AllReplicasReady")


def test_a_revision_that_never_served_is_nothing_to_go_back_to() -> None:
    world = World(resource(engine=BAD, rollout={"progressDeadlineSeconds": 600}))
    world.broken.add(world.resolved.revision)
    for _ in range(4):
        world.round()
    _, new = change(world, engine=GOOD)  # the cure
    world.converge()
    world.crash(next(iter(world.pods.values())), restarts=3)
    world.broken.add(new)
    world.converge()
    assert world.ready()[1] != "RolledBack"
    assert world.workers() == {f"qwen3-{new}-worker": 1}


def test_a_new_replica_counts_only_when_it_has_answered_for_min_ready_seconds(served: World) -> None:
    served.edit(rollout={"minReadySeconds": 30, "progressDeadlineSeconds": 600})
    old, _ = change(served, engine=GOOD)
    for _ in range(4):
        served.round()
    assert served.serves[old].target == 3
    assert 1 <= (served.step().look_again_seconds or 0) <= 30
    served.now += 31
    served.step()
    assert served.serves[old].target == 2


def test_a_paused_rollout_takes_no_step_and_follows_the_count(served: World) -> None:
    old, new = change(served, engine=GOOD, rollout={"paused": True})
    served.converge()
    assert served.ready() == ("False", "Paused")
    assert served.workers() == {f"qwen3-{old}-worker": 3}
    served.edit(replicas=4)
    served.converge()
    assert served.workers() == {f"qwen3-{old}-worker": 4}
    served.edit(rollout={"paused": False})
    for _ in range(4):
        served.round()
    served.edit(rollout={"paused": True})
    served.converge()
    halfway = served.workers()
    assert halfway.keys() == {f"qwen3-{old}-worker", f"qwen3-{new}-worker"}
    served.now += 10_000
    served.converge()
    assert served.workers() == halfway
    assert served.ready() == ("False", "Paused")
    served.edit(rollout={"paused": False})
    served.converge()
    assert served.workers() == {f"qwen3-{new}-worker": 4}


def test_a_named_revision_of_the_history_is_gone_back_to(served: World) -> None:
    old, new = change(served, engine=GOOD)
    served.converge()
    assert states(served) == {new: "Serving", old: "Kept"}
    served.edit(rollout={"revision": old})
    served.converge()
    assert served.ready() == ("True", "AllReplicasReady")
    assert served.workers() == {f"qwen3-{old}-worker": 3}
    config = served.serves[old].config
    assert config is not None
    assert config["applications"][0]["args"]["engine_args"] == {}
    served.edit(rollout={})
    served.converge()
    assert served.workers() == {f"qwen3-{new}-worker": 3}


def test_a_revision_that_is_not_remembered_is_told_with_those_that_are(served: World) -> None:
    served.edit(rollout={"revision": "00000000"})
    with pytest.raises(
        InvalidSpec, match=r"names revision 00000000, which is not remembered \(there are: [0-9a-f]{8}\)"
    ):
        _ = served.resolved


def test_as_many_revisions_are_remembered_as_are_asked_for(served: World) -> None:
    served.edit(rollout={"revisionHistoryLimit": 2})
    hashes = [served.resolved.revision]
    for length in range(1, 6):
        _, new = change(served, engine={"args": {"max-model-len": length}})
        hashes.append(new)
        served.converge()
    kept = [key.name for key in served.children if key.kind == "ControllerRevision"]
    assert sorted(kept) == sorted(f"qwen3-{each}" for each in hashes[-3:])
    assert [each["hash"] for each in served.resource["status"]["revisions"]] == hashes[:-4:-1]


def test_what_is_remembered_is_what_forms_a_revision_and_no_more(served: World) -> None:
    entry = served.children[ObjectKey("ControllerRevision", f"qwen3-{served.resolved.revision}")]
    assert entry["data"]["spec"].keys() <= set(FORMING)
    assert entry["metadata"]["annotations"] == {names.SERVED_ANNOTATION: "true"}


def test_an_old_revision_that_lost_a_part_midway_gets_it_again(served: World) -> None:
    old, new = change(served, broken=True, engine=GOOD)
    for _ in range(3):
        served.round()
    del served.children[ObjectKey("Service", names.revision_head("qwen3", old))]
    served.serves[old].config = None
    writes = served.step().writes
    assert [w.manifest["metadata"]["name"] for w in writes if isinstance(w, Apply)] == [f"qwen3-{old}-head"]
    assert [w.revision for w in writes if isinstance(w, PutServe)] == [old]
    assert new in served.serves


def test_suspended_refuses_requests_first_then_drains_and_comes_back_as_it_was(served: World) -> None:
    served.edit(suspend=True, autoscaling={"maxReplicas": 4})
    served.step()
    router = served.children[ObjectKey("Deployment", "qwen3-router")]
    config = served.children[ObjectKey("ConfigMap", "qwen3-router")]["data"]["haproxy.cfg"]
    assert "suspended" in config
    router["status"] |= {"updatedReplicas": 1}
    served.step()
    assert served.ready() == ("False", "Suspending")
    assert served.workers() == {f"qwen3-{served.resolved.revision}-worker": 3}, "requests still come"
    served.converge()
    assert served.ready() == ("True", "Suspended")
    assert served.conditions()["Available"] == "False"
    assert not served.pods
    assert not [key for key in served.children if key.kind == "HorizontalPodAutoscaler"], "nobody scales it"
    assert served.resource["spec"]["replicas"] == 3
    served.edit(suspend=False)
    served.converge()
    assert served.ready() == ("True", "AllReplicasReady")
    assert len(served.pods) == 3


def test_a_count_that_falls_while_a_replica_loads_takes_that_one_and_none_that_serves(served: World) -> None:
    served.edit(replicas=4)
    served.step()
    served.settle(ready=False)
    serving = {ip for ip, state in served.serves[served.resolved.revision].replicas.items() if state == "RUNNING"}
    served.edit(replicas=3)
    served.converge()
    assert {pod["status"]["podIP"] for pod in served.pods.values()} == serving


def test_a_replica_that_is_lost_keeps_the_count_from_falling_below_what_is_asked_for(served: World) -> None:
    for pod in list(served.pods.values())[:2]:
        pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    served.edit(replicas=2)
    assert served.step().writes == (), "one serves, and Serve might choose that one"
    served.settle()
    served.converge()
    assert len(served.pods) == 2


def test_no_event_and_no_status_comes_from_an_unchanged_rollout(served: World) -> None:
    change(served, broken=True, engine=GOOD)
    for _ in range(6):
        served.round()
    before = served.resource["status"]
    served.now += 100
    served.round()
    assert served.resource["status"] == before
    assert not [write for write in served.step().writes if not isinstance(write, Delete)]


def test_a_revision_that_was_whole_is_noted_as_such_even_when_the_spec_changed_at_once() -> None:
    world = World(resource(replicas=1))
    while not world.pods or world.ready() != ("True", "AllReplicasReady"):
        world.step()
        world.settle()
    old, _ = change(world, broken=True, engine=GOOD)
    world.step()
    annotations = world.children[ObjectKey("ControllerRevision", f"qwen3-{old}")]["metadata"]["annotations"]
    assert annotations == {names.SERVED_ANNOTATION: "true"}


def test_without_a_surge_no_replica_is_given_up_for_a_head_that_does_not_come() -> None:
    world = World(resource(replicas=3, rollout={"maxSurge": 0, "maxUnavailable": 1}))
    world.converge()
    old, new = change(world, engine=GOOD)
    for _ in range(5):
        world.round()
        world.children[ObjectKey("Deployment", names.revision_head("qwen3", new))]["status"] = {}
    assert world.serves[old].target == 3
    world.converge()
    assert world.workers() == {f"qwen3-{new}-worker": 3}


def test_a_count_that_rises_before_a_new_replica_serves_is_the_old_revisions(served: World) -> None:
    old, new = change(served, broken=True, engine=GOOD)
    for _ in range(4):
        served.round()
    served.edit(replicas=4)
    for _ in range(4):
        served.round()
    assert served.workers() == {f"qwen3-{old}-worker": 4, f"qwen3-{new}-worker": 1}


def test_a_revision_whose_history_was_deleted_is_scaled_and_gone_back_to_all_the_same() -> None:
    world = World(resource(replicas=2, rollout={"maxSurge": 0, "maxUnavailable": 1, "progressDeadlineSeconds": 600}))
    world.converge()
    old, _ = change(world, broken=True, engine=GOOD)
    del world.children[ObjectKey("ControllerRevision", f"qwen3-{old}")]
    for _ in range(8):
        world.round()
    assert world.workers()[f"qwen3-{old}-worker"] == 1
    world.now += 601
    world.converge()
    assert world.ready() == ("False", "RolledBack")
    assert world.workers() == {f"qwen3-{old}-worker": 2}
