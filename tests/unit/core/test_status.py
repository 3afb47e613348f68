"""The status, read as a person would read it."""

from __future__ import annotations

import dataclasses

import pytest

from sundog_operator.core import names
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.serve_config import serve_config
from sundog_operator.core.writes import PutServe
from tests.unit.core.world import IDLE, Serve, World, kinds, resource, set_ready


def _message(world: World, kind: str = "Ready") -> str:
    return next(str(c["message"]) for c in world.resource["status"]["conditions"] if c["type"] == kind)


def _unscheduled(words: str) -> Manifest:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}


def _waiting(reason: str, words: str) -> Manifest:
    waiting = {"reason": reason, "message": words}
    return {"containerStatuses": [{"name": "engine", "image": "acme/llm:1", "state": {"waiting": waiting}}]}


# What Kubernetes says → reason and sentence of Ready. The words are those of Kubernetes 1.37.
POD_PROBLEMS = {
    "missing claim": (
        _unscheduled('0/1 nodes are available: persistentvolumeclaim "models" not found. preemption: 0/1 nodes'),
        "PersistentVolumeClaimNotFound",
        'PersistentVolumeClaim "models" does not exist in namespace "team"; create it, or name another',
    ),
    "no gpu": (
        _unscheduled("0/2 nodes are available: 2 Insufficient nvidia.com/gpu. no new claims to deallocate."),
        "InsufficientGPU",
        (
            "no node has enough free nvidia.com/gpu for pod {pod}: 0/2 nodes are available: 2 Insufficient "
            "nvidia.com/gpu. no new claims to deallocate; add a GPU node, free one, or lower spec.resources or "
            "spec.replicas"
        ),
    ),
    "no memory": (
        _unscheduled("0/2 nodes are available: 2 Insufficient memory."),
        "Unschedulable",
        "pod {pod} fits no node: 0/2 nodes are available: 2 Insufficient memory; add a node, or lower spec.resources",
    ),
    "missing image": (
        _waiting("ErrImagePull", "failed to resolve reference: not found"),
        "ImagePullFailed",
        (
            "image acme/llm:1 cannot be pulled: failed to resolve reference: not found; check its name and tag, and "
            "spec.podTemplate.spec.imagePullSecrets if its registry asks for a password"
        ),
    ),
    "missing image, between two tries": (
        _waiting(
            "ImagePullBackOff",
            'Back-off pulling image "acme/llm:1": ErrImagePull: failed to resolve reference: not found',
        ),
        "ImagePullFailed",
        (
            "image acme/llm:1 cannot be pulled: failed to resolve reference: not found; check its name and tag, and "
            "spec.podTemplate.spec.imagePullSecrets if its registry asks for a password"
        ),
    ),
    "missing secret": (
        _waiting("CreateContainerConfigError", 'secret "hf-token" not found'),
        "SecretNotFound",
        'Secret "hf-token" does not exist in namespace "team"; create it, or name another in the spec',
    ),
    "missing key": (
        _waiting("CreateContainerConfigError", "couldn't find key HF_TOKEN in Secret team/hf-token"),
        "SecretKeyNotFound",
        "Secret team/hf-token has no key HF_TOKEN; add it, or name another in the spec",
    ),
}


@pytest.mark.parametrize("case", POD_PROBLEMS)
def test_what_keeps_a_pod_from_running_is_told_with_its_cure(case: str) -> None:
    pod_status, reason, sentence = POD_PROBLEMS[case]
    world = World(resource())
    world.step()
    world.settle(ready=False)
    pod = next(iter(world.pods.values()))
    pod["status"] = {"phase": "Pending", **pod_status}
    world.step()
    assert world.ready() == ("False", reason)
    assert _message(world) == sentence.format(pod=pod["metadata"]["name"])
    assert world.conditions().get("Reconciling") == "True"  # waiting may cure it
    assert "Stalled" not in world.conditions()


TRACEBACK = """The deployment failed to start 3 times in a row. Error:
ray::ServeReplica:llm:engine.initialize_and_get_metadata() (pid=1, ip=10.0.0.9)
    raise EngineStartError(reason, sentence)
sundog_serving.errors.EngineStartError: {reason}: {sentence}"""


@pytest.mark.parametrize(
    ("reason", "stalled"),
    [("EngineArgumentInvalid", True), ("EngineVersionUnsupported", True), ("ModelNotFound", False)],
)
def test_a_failed_start_is_told_in_the_words_of_the_engine(reason: str, *, stalled: bool) -> None:
    world = World(resource())
    world.step()
    world.settle(ready=False)
    world.serves[world.resolved.revision] = Serve(
        message=TRACEBACK.format(reason=reason, sentence="the cause; the cure"), config=None
    )
    world.step()  # PUT
    world.serves[world.resolved.revision].status = "DEPLOYING"
    world.step()
    assert world.ready() == ("False", reason)
    assert _message(world) == "the cause; the cure"
    assert ("Stalled" in world.conditions()) == stalled
    assert ("Reconciling" in world.conditions()) != stalled


def test_a_failed_start_is_tried_again_only_where_waiting_may_cure_it() -> None:
    for reason, tried_again in {"ModelNotFound": True, "EngineArgumentInvalid": False}.items():
        world = World(resource())
        world.step()
        world.settle(ready=False)
        serve = world.serves[world.resolved.revision] = Serve(message=TRACEBACK.format(reason=reason, sentence="a; b"))
        world.step()  # PUT
        serve.status = "DEPLOY_FAILED"
        assert world.step().writes == ()  # not at once
        world.now += 31
        writes = world.step().writes
        assert kinds(writes) == (["PutServe"] if tried_again else [])
        # Serve ignores a PUT of the same arguments once it has given up.
        assert [w.config["applications"][0]["args"]["attempt"] for w in writes] == [1] * len(writes)


def test_a_change_after_a_second_attempt_does_not_restart_the_replicas() -> None:
    world = World(resource())
    world.converge()
    revision = world.resolved.revision
    config = serve_config(world.resolved, replicas=1, attempt=2)
    config["applications"][0]["deployments"][0]["health_check_period_s"] = 9  # as another release had it
    world.serves[revision].config = config
    world.edit(router={"maxQueue": 7})  # something that makes a head be asked, and no new revision
    (put,) = [w for w in world.step().writes if isinstance(w, PutServe)]
    assert put.config["applications"][0]["args"]["attempt"] == 2


def test_an_overdue_replica_is_stalled_and_says_why() -> None:
    world = World(resource(rollout={"progressDeadlineSeconds": 60}))
    world.step()
    world.settle(ready=False)
    pod = next(iter(world.pods.values()))
    pod["status"] |= _waiting("ErrImagePull", "not found")
    world.step()
    assert "Stalled" not in world.conditions()
    world.now += 61
    world.step()
    assert world.conditions()["Stalled"] == "True"
    assert _message(world, "Stalled").startswith(
        "a replica was not ready within spec.rollout.progressDeadlineSeconds (60 s): image acme/llm:1 cannot be pulled"
    )


def test_an_invalid_spec_is_stalled_and_keeps_what_serves() -> None:
    world = World(resource())
    world.converge()
    replicas = world.resource["status"]["readyReplicas"]
    world.edit(podTemplate={"spec": {"hostNetwork": True}})
    world.step()
    assert world.ready() == ("False", "InvalidSpec")
    assert _message(world) == (
        "spec.podTemplate.spec.hostNetwork: is not allowed by the restricted pod security level; remove it"
    )
    assert world.resource["status"]["readyReplicas"] == replicas
    assert world.workers()


def test_ready_is_never_true_while_reconciling_or_stalled() -> None:
    world = World(resource(replicas=2))
    for _ in range(8):
        world.step()
        conditions = world.conditions()
        assert "Ready" in conditions
        assert (conditions["Ready"] == "True") == ("Reconciling" not in conditions and "Stalled" not in conditions)
        world.settle()


def test_a_lost_replica_is_told_while_the_rest_serves() -> None:
    world = World(resource(replicas=2))
    world.converge()
    set_ready(next(iter(world.pods.values())), ready=False)
    world.step()
    assert world.ready() == ("False", "ReplicasStarting")
    assert _message(world) == "1 of 2 replicas answer; the others are loading the model"
    assert world.conditions()["Available"] == "True"


def test_a_head_that_is_away_does_not_make_a_serving_deployment_unready() -> None:
    world = World(resource(replicas=2))
    world.converge()
    name = names.revision_head("qwen3", world.resolved.revision)
    world.children[ObjectKey("Deployment", name)]["status"] = {}
    world.step()
    assert world.ready() == ("True", "AllReplicasReady")


def test_replicas_are_ready_only_when_every_router_reaches_one() -> None:
    world = World(resource(replicas=2))
    world.router_says = dataclasses.replace(IDLE, servers=0)
    world.converge()
    assert world.ready() == ("False", "RouterStarting")
    assert _message(world, "Ready") == "requests would be refused yet: router router-1 does not reach a replica yet"
    assert world.step().look_again_seconds == 1.0, "no watch tells when it does"
    world.router_says = IDLE
    world.step()
    assert world.ready() == ("True", "AllReplicasReady")
    assert world.step().look_again_seconds is None


def test_a_router_that_cannot_be_asked_is_taken_at_its_readiness() -> None:
    world = World(resource(replicas=2))
    world.router_says = "router router-1 did not say its load within 3 s"
    world.converge()
    assert world.ready() == ("True", "AllReplicasReady")


def test_zero_replicas_are_ready_only_when_every_router_would_hold_a_request() -> None:
    world = World(resource(replicas=0))
    world.router_says = dataclasses.replace(IDLE, servers=0)
    world.converge()
    assert world.conditions() == {"Available": "False", "Ready": "False", "Reconciling": "True", "Scheduled": "True"}
    assert _message(world, "Ready") == "requests would be refused yet: router router-1 does not reach the head yet"
    assert world.step().look_again_seconds == 1.0, "no watch tells when it does"
    world.router_says = "router router-1 did not say its load within 3 s"
    world.step()
    assert _message(world, "Ready") == f"requests would be refused yet: {world.router_says}"
    world.router_says = IDLE
    world.step()
    assert world.conditions() == {"Available": "True", "Ready": "True", "Scheduled": "True"}
    assert world.step().look_again_seconds is None
