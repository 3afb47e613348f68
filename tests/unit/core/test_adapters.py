"""LoRA adapters: who is told, who is asked, and what is said of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sundog_operator.core.adapters import adapters_ready, adapters_status, identity, replicas_to_ask
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.events import transitions
from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import AdapterState
from sundog_operator.core.serve_config import is_deployed, serve_config
from sundog_operator.core.view import condition
from sundog_operator.core.writes import PutServe
from tests.unit.core.world import World, resource

FRENCH = {"name": "french", "uri": "hf://acme/french"}
LEGAL = {"name": "legal", "uri": "hf://acme/legal"}


def model(*adapters: dict[str, str], **lora: Any) -> dict[str, Any]:
    return {"uri": "hf://Qwen/Qwen3-0.6B", "lora": {"adapters": list(adapters), **lora}}


def settled(*adapters: dict[str, str], replicas: int = 2) -> World:
    world = World(resource(replicas=replicas, model=model(*adapters)))
    world.converge()
    assert world.ready() == ("True", "AllReplicasReady" if replicas else "ScaledToZero")
    return world


def told(world: World) -> tuple[str, str, str]:
    found = condition(world.resource, "AdaptersReady")
    return found["status"], found["reason"], found["message"]


def test_an_edit_of_the_list_restarts_nothing_and_reaches_all_replicas() -> None:
    world = settled(FRENCH)
    pods, revision = set(world.pods), world.resolved.revision
    world.log.clear()
    world.edit(model=model(FRENCH, LEGAL))
    world.converge()
    (put,) = world.log
    assert isinstance(put, PutServe)
    (deployment,) = put.config["applications"][0]["deployments"]
    assert [entry["name"] for entry in deployment["user_config"]["adapters"]] == ["french", "legal"]
    assert deployment["num_replicas"] == 2
    assert (set(world.pods), world.resolved.revision) == (pods, revision)
    assert world.resource["status"]["adapters"] == [
        {"name": name, "state": "Loaded", "loaded": 2, "replicas": 2} for name in ("french", "legal")
    ]
    assert told(world) == ("True", "AdaptersLoaded", "2 of 2 replicas have all adapters")


@pytest.mark.parametrize(
    "changed", [{"uri": "hf://Qwen/Qwen3-0.6B"}, model(FRENCH, maxRank=64), model(FRENCH, maxAdapters=8)]
)
def test_the_room_for_adapters_is_of_the_revision(changed: dict[str, Any]) -> None:
    world = World(resource(model=model(FRENCH)))
    before = world.resolved.revision
    world.edit(model=changed)
    assert world.resolved.revision != before


def test_nothing_of_a_deployment_without_adapters_has_changed() -> None:
    (application,) = serve_config(World(resource()).resolved, replicas=1)["applications"]
    assert "lora" not in application["args"]
    assert "user_config" not in application["deployments"][0]
    world = World(resource())
    world.converge()
    assert "adapters" not in world.resource["status"]
    assert not condition(world.resource, "AdaptersReady")


@pytest.mark.parametrize(
    "after", [[], [LEGAL], [LEGAL, FRENCH], [FRENCH | {"revision": "v2"}], [FRENCH | {"uri": "a/b"}]]
)
def test_a_head_that_has_another_list_is_told(after: list[dict[str, str]]) -> None:
    world = World(resource(model=model(FRENCH, LEGAL)))
    deployed = serve_config(world.resolved, replicas=1)["applications"][0]
    assert is_deployed(serve_config(world.resolved, replicas=1), deployed)
    world.edit(model=model(*after))
    assert not is_deployed(serve_config(world.resolved, replicas=1), deployed)


def test_a_claim_that_is_mounted_holds_adapters() -> None:
    pvc = {"name": "french", "uri": "pvc://models/lora/french/"}
    for spec, path in (
        ({"uri": "pvc://models/llama", "lora": {"adapters": [pvc]}}, "/mnt/model/lora/french"),
        (
            {"uri": "a/b", "cache": {"persistentVolumeClaim": {"claimName": "models"}}, "lora": {"adapters": [pvc]}},
            "/mnt/cache/lora/french",
        ),
    ):
        config = serve_config(World(resource(model=spec)).resolved, replicas=1)
        (entry,) = config["applications"][0]["deployments"][0]["user_config"]["adapters"]
        assert entry == {"name": "french", "uri": "pvc://models/lora/french", "path": path, "revision": None}


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        ({"name": "french", "uri": "pvc://other/french"}, "no pod has claim other mounted; put the adapter into"),
        ({"name": "qwen3", "uri": "a/b"}, "qwen3 is the name of the model itself"),
        ({"name": "french", "uri": "s3://a/b"}, "this release reads hf://org/name"),
    ],
)
def test_what_could_not_be_loaded_without_a_restart_is_refused(adapter: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        _ = World(resource(model=model(adapter))).resolved


def test_an_adapter_that_fails_is_told_and_the_model_stays_ready() -> None:
    world = settled(FRENCH)
    before = world.resource["status"]
    world.adapters_fail = {"legal": "LoRA rank 64 is greater than max_lora_rank 32."}
    world.edit(model=model(FRENCH, LEGAL))
    world.converge()
    assert world.ready() == ("True", "AllReplicasReady")
    message = "adapter legal is not on 2 of 2 replicas: LoRA rank 64 is greater than max_lora_rank 32."
    assert told(world) == ("False", "AdapterFailed", message)
    (event,) = transitions(before, world.resource["status"])
    assert (event.type, event.reason, event.message) == ("Warning", "AdapterFailed", message)
    assert [(row["name"], row["state"], row["loaded"]) for row in world.resource["status"]["adapters"]] == [
        ("french", "Loaded", 2),
        ("legal", "Failed", 0),
    ]
    failed = world.resource["status"]
    assert world.step().look_again_seconds == 30, "no watch tells when its cause is gone"
    world.adapters_fail = {}
    world.step()
    assert [event.reason for event in transitions(failed, world.resource["status"])] == ["AdaptersLoaded"]


def said(*states: str) -> tuple[AdapterState, ...]:
    """What a replica says of french and legal."""
    names = ("french", "legal")
    return tuple(
        AdapterState(name, f"hf://acme/{name}", None, state, "boom" if state == "failed" else "")
        for name, state in zip(names, states, strict=False)
    )


@pytest.mark.parametrize(
    ("one", "two", "condition", "rows"),
    [
        (
            said("loaded", "loaded"),
            said("loaded", "loaded"),
            ("True", "AdaptersLoaded", "2 of 2 replicas have all adapters"),
            ["Loaded 2/2", "Loaded 2/2"],
        ),
        (
            said("loaded", "loaded")[::-1],
            said("loaded", "loaded"),
            ("True", "AdaptersLoaded", "2 of 2 replicas have all adapters"),
            ["Loaded 2/2", "Loaded 2/2"],
        ),
        (
            said("loaded", "loaded"),
            said("loaded", "loading"),
            ("False", "AdaptersLoading", "1 of 2 replicas have adapter legal"),
            ["Loaded 2/2", "Loading 1/2"],
        ),
        (
            said("loaded", "loaded"),
            said("loaded"),
            ("False", "AdaptersChanging", "1 of 2 replicas have taken the list of adapters"),
            ["Loaded 2/2", "Loading 1/2"],
        ),
        (
            said("failed", "failed"),
            said("loaded", "loading"),
            (
                "False",
                "AdapterFailed",
                "adapter french is not on 1 of 2 replicas: boom (and 1 more, see status.adapters)",
            ),
            ["Failed 1/2", "Failed 0/2"],
        ),
        (
            "replica p did not say its adapters within 3 s",
            said("loaded", "loaded"),
            (
                "False",
                "AdaptersChanging",
                "1 of 2 replicas have taken the list of adapters: replica p did not say its adapters within 3 s",
            ),
            ["Loading 1/2", "Loading 1/2"],
        ),
    ],
)
def test_what_replicas_say_is_one_condition_and_a_row_for_each(
    one: Any, two: Any, condition: tuple[str, str, str], rows: list[str]
) -> None:
    world = settled(FRENCH, LEGAL)
    observed = dataclasses.replace(world.observe(), adapters=dict(zip(sorted(world.pods), (one, two), strict=True)))
    assert adapters_ready(world.resolved, observed) == condition
    found = adapters_status(world.resolved, observed)["adapters"]
    assert [f"{row['state']} {row['loaded']}/{row['replicas']}" for row in found] == rows


def test_a_list_that_its_head_could_not_be_told_is_told_later() -> None:
    world = settled(FRENCH)
    world.heads_away = True
    world.edit(model=model(FRENCH, LEGAL))
    plan = world.step()
    assert (plan.writes, plan.look_again_seconds) == ((), 1)
    assert world.ready()[0] == "True", "the model is served"
    assert told(world) == ("False", "AdaptersChanging", "0 of 2 replicas have taken the list of adapters")
    world.heads_away = False
    assert [type(write) for write in world.step().writes] == [PutServe]
    world.converge()
    assert told(world)[0] == "True"


def test_only_a_replica_that_may_lack_an_adapter_is_asked() -> None:
    world = settled(FRENCH, LEGAL)
    observed = world.observe()
    known = {identity(pod): said("loaded", "loaded") for pod in world.pods.values()}

    def asked(spec: Manifest | None = None) -> list[str]:
        if spec:
            world.edit(model=spec)
        return [pod["metadata"]["name"] for pod in replicas_to_ask(world.resolved, observed, known)]

    first, second = sorted(world.pods)
    assert asked() == []
    known[identity(world.pods[second])] = said("loaded", "failed")
    assert asked() == [second]
    known[identity(world.pods[second])] = said("loaded", "loaded")
    world.pods[first]["status"]["containerStatuses"][0]["restartCount"] = 1
    assert asked() == [first], "its container started afresh"
    known[identity(world.pods[first])] = said("loaded", "loaded")
    assert asked() == []
    assert asked(model(FRENCH)) == [first, second], "the list has changed"
    known.clear()
    assert asked() == [first, second], "an operator that was started anew knows nothing"


def test_a_replica_that_is_not_ready_is_not_counted() -> None:
    world = settled(FRENCH)
    world.edit(replicas=3)
    world.step()
    world.settle(ready=False)
    world.step()
    assert told(world) == ("True", "AdaptersLoaded", "2 of 2 replicas have all adapters")
    world.converge()
    assert world.resource["status"]["adapters"][0]["replicas"] == 3


def test_at_zero_nobody_is_asked_and_nothing_is_missing() -> None:
    world = settled(FRENCH, replicas=0)
    assert told(world) == ("True", "AdaptersLoaded", "there is no replica; each loads its adapters before it answers")
    assert world.step().look_again_seconds is None


def test_a_list_that_was_edited_reaches_the_revision_that_was_gone_back_to() -> None:
    world = World(resource(replicas=2, model=model(FRENCH), rollout={"progressDeadlineSeconds": 600}))
    world.converge()
    old = world.resolved.revision
    world.edit(model=model(FRENCH, LEGAL), engine={"args": {"max-model-len": 5}})
    world.broken.add(world.resolved.revision)
    for _ in range(4):
        world.round()
    world.now += 601
    world.converge()
    assert world.ready() == ("False", "RolledBack")
    assert list(world.workers()) == [f"qwen3-{old}-worker"]
    assert told(world) == ("True", "AdaptersLoaded", "2 of 2 replicas have all adapters")
    world.log.clear()
    world.edit(model=model(LEGAL))
    world.converge()
    assert [write.revision for write in world.log if isinstance(write, PutServe)] == [old]
    assert [row["name"] for row in world.resource["status"]["adapters"]] == ["legal"]


def test_one_that_was_gone_back_to_and_has_no_room_for_adapters_is_not_asked_for_them() -> None:
    world = World(resource(replicas=2, rollout={"progressDeadlineSeconds": 600}))
    world.converge()
    world.edit(model=model(FRENCH))
    world.broken.add(world.resolved.revision)
    for _ in range(4):
        world.round()
    world.now += 601
    world.converge()
    assert world.ready() == ("False", "RolledBack")
    assert not condition(world.resource, "AdaptersReady")
    assert world.step().look_again_seconds is None
