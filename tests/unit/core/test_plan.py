"""Plans, pass after pass, over a small model of the world."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from sundog_operator.core import names
from sundog_operator.core.names import ObjectKey
from sundog_operator.core.plan import make_plan
from sundog_operator.core.writes import Apply, Delete, PutServe, ScaleServe
from tests.unit.core.world import Serve, World, kinds, resource, set_ready


@pytest.fixture
def served() -> World:
    world = World(resource(replicas=3))
    world.converge()
    assert world.ready() == ("True", "AllReplicasReady")
    return world


def without_history(world: World) -> list[ObjectKey]:
    """All children but what is remembered of revisions that were."""
    kept = {names.revision("qwen3", world.resolved.revision)}
    return [key for key in world.children if key.kind != "ControllerRevision" or key.name in kept]


def test_the_first_pass_creates_everything_the_secret_first() -> None:
    world = World(resource())
    plan = world.step()
    assert kinds(plan.writes)[0] == "Secret"
    assert sorted(kinds(plan.writes)) == sorted(
        ["Secret", "ServiceAccount", "ConfigMap", "PersistentVolumeClaim", "ControllerRevision"]
        + ["NetworkPolicy"] * 3
        + ["PodDisruptionBudget"] * 2
        + ["Service"] * 4
        + ["Deployment"] * 3
    )


def test_a_pass_over_an_unchanged_world_writes_nothing_and_asks_no_head(served: World) -> None:
    observed = served.observe()
    assert not observed.heads
    plan = make_plan(served.resolved, observed)
    assert plan.writes == ()
    assert plan.look_again_seconds is None


def test_the_status_of_an_unchanged_world_is_the_same(served: World) -> None:
    before = served.resource["status"]
    served.now += 1000
    served.step()
    assert served.resource["status"] == before


def test_scale_down_lowers_serve_first_and_takes_only_drained_pods(served: World) -> None:
    served.edit(replicas=1)
    assert [type(w) for w in served.step().writes] == [ScaleServe]
    served.settle()  # two replicas drain; they have requests still
    for _ in range(3):
        assert served.step().writes == ()
    assert served.ready() == ("False", "ReplicasDraining")
    served.drain_ends()
    first, second = served.step().writes, served.step().writes
    assert kinds(first) == ["Pod", "Pod"]  # the marks
    assert [w.reason for w in second if isinstance(w, Apply)] == ["replicas 3 → 1"]
    assert all(w.irreversible for w in second)
    served.converge()
    assert served.ready() == ("True", "AllReplicasReady")
    assert len(served.pods) == 1


def test_a_pod_goes_only_when_the_status_names_it_also_after_a_crash(served: World) -> None:
    served.edit(replicas=1)
    served.step()
    served.settle()
    served.drain_ends()
    before = served.resource["status"]
    assert kinds(served.step().writes) == ["Pod", "Pod"]
    served.resource["status"] = before  # the operator was killed after the marks
    assert served.step().writes == ()
    assert len(served.resource["status"]["scaling"][-1]["victims"]) == 2
    assert kinds(served.step().writes) == ["Deployment"]


def test_an_evicted_replica_that_still_answers_counts_as_available(served: World) -> None:
    for pod in served.pods.values():
        pod["metadata"]["deletionTimestamp"] = "2100-01-01T00:00:00Z"
    served.step()
    assert served.conditions()["Available"] == "True"
    assert served.ready() == ("False", "ReplicasStarting")


def test_a_scale_up_during_a_drain_takes_the_marks_back(served: World) -> None:
    served.edit(replicas=2)
    served.step()
    served.settle()
    served.drain_ends()
    assert kinds(served.step().writes) == ["Pod"]
    served.edit(replicas=3)
    served.converge()
    assert all(not pod["metadata"].get("annotations") for pod in served.pods.values())
    assert len(served.pods) == 3


def test_nothing_is_taken_away_while_the_head_does_not_answer(served: World) -> None:
    served.heads_away = True
    served.edit(replicas=1)
    assert served.step().writes == ()
    assert served.workers() == {f"qwen3-{served.resolved.revision}-worker": 3}


def test_zero_replicas_is_ready_and_keeps_the_head(served: World) -> None:
    served.edit(replicas=0)
    served.converge()
    assert served.ready() == ("True", "ScaledToZero")
    assert served.workers() == {f"qwen3-{served.resolved.revision}-worker": 0}


def test_a_fresh_deployment_of_zero_replicas_is_put_as_one_and_scaled() -> None:
    world = World(resource(replicas=0))
    world.converge()
    serve = [w for w in world.log if isinstance(w, PutServe | ScaleServe)]
    assert [type(w) for w in serve] == [PutServe, ScaleServe]
    assert world.ready() == ("True", "ScaledToZero")


def test_a_changed_spec_replaces_one_replica_after_the_other_and_the_old_head_goes_last(served: World) -> None:
    old = served.resolved.revision
    served.edit(engine={"args": {"max-model-len": 1024}})
    new = served.resolved.revision
    assert new != old
    served.step()
    served.settle(ready=False)
    for _ in range(3):
        served.step()
        assert served.workers() == {f"qwen3-{old}-worker": 3, f"qwen3-{new}-worker": 1}
        assert served.serves[old].target == 3
    served.settle()  # the first new replica serves
    service = served.children[ObjectKey("Service", names.head_service("qwen3"))]
    for replaced in (1, 2, 3):
        assert service["spec"]["selector"][names.REVISION_LABEL] == old
        served.step()
        assert served.serves[old].target == 3 - replaced
        served.settle()
        assert served.step().writes == ()  # the one that goes still has requests
        assert served.ready() == ("False", "RollingOut")
        while replaced < 3 and served.serves[new].target == replaced:
            served.drain_ends()
            served.step()
            served.settle(ready=False)
        served.settle()
        served.step()
        service = served.children[ObjectKey("Service", names.head_service("qwen3"))]
        if replaced == 2:
            break
    assert service["spec"]["selector"][names.REVISION_LABEL] == new
    served.converge()
    assert served.workers() == {f"qwen3-{new}-worker": 3}
    assert not [key for key in without_history(served) if old in key.name]
    assert served.ready() == ("True", "AllReplicasReady")


@pytest.mark.parametrize("what", ["Serve has yet to call it running", "the old head does not answer"])
def test_a_rollout_that_waits_for_what_no_watch_tells_looks_again(served: World, what: str) -> None:
    old = served.resolved.revision
    served.edit(engine={"args": {"max-model-len": 1024}})
    new = served.resolved.revision
    while len(served.serves.get(new, Serve()).replicas) < 3:
        served.round()
    serve = served.serves[new]
    address = list(serve.replicas)[-1]
    if "Serve" in what:
        serve.replicas[address] = "STARTING"
    else:
        served.heads_away = True
    plan = served.step()
    while plan.writes:
        plan = served.step()
    assert served.workers()[f"qwen3-{old}-worker"] == 1
    assert plan.look_again_seconds
    serve.replicas[address] = "RUNNING"
    served.heads_away = False
    served.converge()
    assert served.workers() == {f"qwen3-{new}-worker": 3}


def test_the_head_of_an_old_revision_stays_until_the_last_of_its_workers_has_gone(served: World) -> None:
    old = served.resolved.revision
    served.edit(engine={"args": {"max-model-len": 1024}})
    while f"qwen3-{old}-worker" in served.workers():
        served.step()
        if f"qwen3-{old}-worker" in served.workers():
            served.settle()
            served.drain_ends()
    assert served.step().writes == ()  # its pods end
    assert ObjectKey("Deployment", f"qwen3-{old}-head") in served.children
    served.settle()  # they have
    served.step()
    assert not [key for key in without_history(served) if old in key.name]


def test_a_pod_that_is_slow_to_end_is_named_while_a_rollout_may_wait_for_it(served: World) -> None:
    served.edit(engine={"args": {"max-model-len": 1}})
    served.round()
    pod = next(iter(served.pods.values()))
    at = datetime.fromtimestamp(served.now - 50 + 780, UTC).isoformat().replace("+00:00", "Z")
    pod["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": 780}
    plan = served.step()
    assert plan.look_again_seconds
    assert plan.look_again_seconds <= 10
    assert pod["metadata"]["name"] not in message_of(served)
    served.now += 10
    served.step()
    name, by = pod["metadata"]["name"], pod["metadata"]["deletionTimestamp"]
    assert f"; pod {name} ends, with its requests, by {by} at the latest" in message_of(served)


def message_of(world: World) -> str:
    (ready,) = (each for each in world.resource["status"]["conditions"] if each["type"] == "Ready")
    assert ready["reason"] == "RollingOut"
    return str(ready["message"])


def test_a_spec_that_changes_again_withdraws_the_revision_that_never_served(served: World) -> None:
    old = served.resolved.revision
    served.edit(engine={"args": {"max-model-len": 1}})
    middle = served.resolved.revision
    served.step()
    served.settle(ready=False)
    served.edit(engine={"args": {"max-model-len": 2}})
    served.step()
    assert any(isinstance(w, Delete) and middle in w.key.name for w in served.log)
    assert served.workers()[f"qwen3-{old}-worker"] == 3
    served.converge()
    assert list(served.workers().values()) == [3]


def test_going_back_to_the_old_spec_keeps_its_replicas(served: World) -> None:
    old, before = served.resolved.revision, set(served.pods)
    served.edit(engine={"args": {"max-model-len": 1}})
    served.step()
    served.settle(ready=False)
    served.edit(engine={})
    assert served.resolved.revision == old
    served.converge()
    assert set(served.pods) == before


def test_an_upgraded_operator_restarts_no_engine(served: World) -> None:
    before = {key: m for key, m in served.children.items() if key.kind == "Deployment" and "router" not in key.name}
    served.config = type(served.config)(serving_image="elsewhere/serving:9")
    served.converge()
    for key, manifest in before.items():
        assert served.children[key]["spec"] == manifest["spec"]


def test_an_edited_child_is_set_back(served: World) -> None:
    for key, manifest in list(served.children.items()):
        if key.kind == "Deployment":
            manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    assert kinds(served.step().writes) == ["Deployment"] * 3
    assert {w.reason for w in served.log[-3:]} == {"it was changed by someone else"}


def test_a_missing_token_secret_is_made_again(served: World) -> None:
    pod = next(iter(served.pods.values()))
    message = f'secret "{served.resolved.token_secret}" not found'
    pod["status"]["containerStatuses"] = [
        {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": message}}}
    ]
    assert kinds(make_plan(served.resolved, served.observe()).writes) == ["Secret"]


def test_a_head_that_lost_its_state_gets_its_application_again(served: World) -> None:
    revision = served.resolved.revision
    served.serves[revision].config = None
    set_ready(next(iter(served.pods.values())), ready=False)
    assert [type(w) for w in make_plan(served.resolved, served.observe()).writes] == [PutServe]


def test_without_a_default_storage_class_the_head_keeps_its_state_in_the_pod() -> None:
    world = World(resource(), default_storage_class=False)
    world.converge()
    assert not [key for key in world.children if key.kind == "PersistentVolumeClaim"]
    world.default_storage_class = True  # what was decided at first stays: a head is not replaced for it
    assert make_plan(world.resolved, world.observe()).writes == ()


@pytest.mark.parametrize("seed", range(60))
def test_any_sequence_of_edits_ends_where_a_fresh_create_of_the_last_spec_ends(seed: int) -> None:
    """Passes, drains and edits come in any order; no pod with a replica is ever removed (the world asserts it)."""
    draw = random.Random(seed)
    world = World(resource(replicas=draw.randint(0, 4)))
    for _ in range(draw.randint(1, 12)):
        match draw.randint(0, 5):
            case 0:
                world.edit(replicas=draw.randint(0, 4))
            case 1:
                world.edit(engine={"args": {"max-model-len": draw.randint(1, 3)}})
            case 2:
                world.settle(ready=draw.random() < 0.7)
            case 3:
                world.drain_ends()
            case _:
                world.heads_away = draw.random() < 0.2
                world.step()
    world.heads_away = False
    world.converge(passes=100)
    fresh = World({**world.resource, "status": {}})
    fresh.converge()
    assert set(without_history(world)) == set(without_history(fresh))
    assert world.workers() == fresh.workers()
    assert world.ready() == fresh.ready()
