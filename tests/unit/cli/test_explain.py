"""`explain`: why this many, why this revision, why not ready; each from what the core and Kubernetes have written."""

from __future__ import annotations

from dataclasses import replace

from sundog_cli.explain import explain
from sundog_operator.core.names import Manifest, ObjectKey
from tests.unit.cli.recorded import NOW, START, loading, ready, snapshot, time
from tests.unit.core.world import World, resource


def _autoscaled() -> World:
    world = ready(replicas=2, autoscaling={"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 300})
    hpa = world.children[ObjectKey("HorizontalPodAutoscaler", "qwen3")]
    (metric,) = hpa["spec"]["metrics"]
    current = {"type": "Object", "object": {"metric": metric["object"]["metric"], "current": {"averageValue": "48"}}}
    hpa["status"] = {
        "desiredReplicas": 3,
        "currentMetrics": [current],
        "conditions": [
            {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "it works"},
            {"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas", "message": "more than allowed"},
        ],
    }
    return world


def test_why_this_many_names_bounds_metric_decision_and_what_limits() -> None:
    told = explain(snapshot(_autoscaled()), now=NOW).replicas
    assert told[0] == "2 asked for by spec.replicas; 2 there, 2 of them ready."
    assert "1m40s ago: replicas 0 → 2 by default." in told
    assert (
        "A HorizontalPodAutoscaler decides, between 0 and 4, to keep ongoing_requests at 32 for each replica; the last "
        "replica goes 300 s after the last request."
    ) in told
    assert (
        "HorizontalPodAutoscaler qwen3 wants 3, for it measured ongoing_requests 48 for each replica where 32 is right."
    ) in told
    assert "qwen3, ScalingLimited=True: more than allowed." in told
    assert not any("ScalingActive" in sentence for sentence in told), "what is well needs no words"


def test_without_autoscaling_nobody_but_a_person_changes_the_number() -> None:
    told = explain(snapshot(ready()), now=NOW).replicas
    assert told[-1] == "spec.autoscaling is not set: nobody changes the number but you."
    someone = {"metadata": {"name": "theirs"}, "spec": {}, "status": {}}
    told = explain(replace(snapshot(ready()), autoscalers=(someone,)), now=NOW).replicas
    assert told[-1] == "HorizontalPodAutoscaler theirs wants no number yet."


def test_why_this_revision_says_what_it_is_made_of_and_which_one_serves() -> None:
    world = ready(engine={"args": {"max-model-len": 4096}}, model={"uri": "hf://a/b", "revision": "abc"})
    told = explain(snapshot(world), now=NOW).revision
    assert "is what the spec asks for." in told[0]
    assert told[1] == (
        "The spec asks for: model hf://a/b, its revision abc, engine vllm, the operator's serving image, "
        "max-model-len=4096."
    )
    world.edit(engine={"args": {"max-model-len": 8192}})
    world.step()
    told = explain(snapshot(world), now=NOW).revision
    assert any("takes over when all of it is ready" in sentence for sentence in told)
    assert any("of an earlier spec, and serves until another is whole" in sentence for sentence in told)


def test_why_this_revision_says_that_one_was_taken_back() -> None:
    world = ready()
    world.edit(engine={"args": {"max-model-len": 1}})
    world.broken.add(broken := world.resolved.revision)
    world.round()
    world.round()
    world.serves[broken].message = "EngineStartError: EngineArgumentInvalid: max-model-len must be 8 or more"
    for _ in range(20):
        world.round()
    told = explain(snapshot(world), now=NOW).revision
    (line,) = [sentence for sentence in told if broken in sentence]
    assert line.endswith("could not serve and was taken back; it is not tried again until the spec changes.")


def test_why_not_ready_names_cause_cure_pods_and_warnings() -> None:
    def event(kind: str, message: str, at: float) -> Manifest:
        about = {"kind": "Pod", "name": "p"}
        return {
            "type": kind,
            "reason": "Killing",
            "message": message,
            "involvedObject": about,
            "lastTimestamp": time(at),
        }

    events = (event("Normal", "all is well", START), event("Warning", "it was killed", NOW - 5))
    told = explain(replace(snapshot(loading()), events=events), now=NOW)
    assert not told.is_ready
    assert told.ready[0].startswith("Not ready for 0s, ReplicasStarting: 2 of 3 replicas answer")
    assert told.ready[1].startswith("What to do: wait while the model is loaded")
    assert any("loads the model for 50s" in sentence for sentence in told.ready)
    assert told.ready[-1] == "Event 5s ago, Pod p: Killing: it was killed"
    assert not any("all is well" in sentence for sentence in told.ready)


def test_ready_is_one_sentence() -> None:
    told = explain(snapshot(ready()), now=NOW)
    assert told.is_ready
    assert told.ready == ("Ready for 1m40s (AllReplicasReady): 1 of 1 replicas answer.",)


def test_a_spec_of_a_newer_release_is_told_and_the_rest_explained() -> None:
    world = World(resource(rollout={"maxParsecs": 12}))
    told = explain(snapshot(world), now=NOW)
    assert any("install the release of the operator" in sentence for sentence in told.replicas)
