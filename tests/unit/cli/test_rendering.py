"""`render` and `diff`: what the operator would create, from the same core, without the operator."""

from __future__ import annotations

import pytest
import yaml

from sundog_cli.errors import Trouble
from sundog_cli.manifests import as_yaml, make
from sundog_cli.rendering import Rendered, as_in_cluster, compare, headline, operator_environment, render
from sundog_operator.config import Config, from_environment
from sundog_operator.core.names import Manifest
from tests.unit.core.world import World, resource


def rendered(**spec: object) -> Rendered:
    return render(resource(**spec), Config(), namespace="team")


def test_what_is_rendered_is_what_a_first_pass_of_the_operator_makes() -> None:
    world = World(resource())
    world.step()
    made = {(key.kind, key.name.replace(world.resolved.revision, "*")) for key in world.children}
    shown = rendered()
    assert {
        (each["kind"], each["metadata"]["name"].replace(shown.revision, "*")) for each in shown.manifests
    } - made == {("Secret", next(each["metadata"]["name"] for each in shown.manifests if each["kind"] == "Secret"))}
    assert made <= {(each["kind"], each["metadata"]["name"].replace(shown.revision, "*")) for each in shown.manifests}


def test_no_token_that_is_none_is_shown() -> None:
    (secret,) = [each for each in rendered().manifests if each["kind"] == "Secret"]
    assert "data" not in secret
    assert set(secret["stringData"].values()) == {"made-by-the-operator"}


def test_what_is_written_for_people_can_be_read_by_programs() -> None:
    manifests = rendered(autoscaling={"class": "KEDA", "maxReplicas": 3}).manifests
    assert list(yaml.safe_load_all(as_yaml(*manifests))) == list(manifests)


def _changes(before: Rendered | None, after: Rendered) -> dict[str, str]:
    found = compare(before, after, revision="0badcafe")
    return {f"{each.kind}/{each.name}": each.change for each in found}


def test_the_same_spec_changes_nothing_whatever_the_uid() -> None:
    live: Manifest = resource()
    live["metadata"]["uid"] = "another"
    before = render(live, Config(), namespace="team")
    assert _changes(before, rendered()) == {}
    assert headline(before, rendered(), []).endswith("nothing would change.")


def test_more_replicas_change_no_more_than_the_count() -> None:
    before, after = rendered(), rendered(replicas=3)
    found = compare(before, after, revision="0badcafe")
    assert {each.name: each.change for each in found} == {"qwen3": "changed", "qwen3-0badcafe-worker": "changed"}
    lines = [line for line in found[1].lines if line[0] in "+-" and line[:3] not in {"+++", "---"}]
    assert lines == ["-  replicas: 1", "+  replicas: 3"]
    assert headline(before, after, found) == "qwen3: no new revision, so no engine restarts."


def test_a_new_revision_is_said_to_be_one_and_shows_only_what_truly_differs() -> None:
    before, after = rendered(), rendered(engine={"image": "acme/llm:2"})
    found = compare(before, after, revision="0badcafe")
    assert headline(before, after, found).startswith("qwen3: a new revision")
    by_name = {f"{each.kind} {each.name}": each for each in found}
    head = by_name["Deployment qwen3-<revision>-head"]
    assert head.change == "replaced"
    changed = [line for line in head.lines if line[0] in "+-" and line[:3] not in {"+++", "---"}]
    assert changed == ["-        image: sundog-dev/sundog-serving:0.1.0", "+        image: acme/llm:2"]
    assert by_name["PersistentVolumeClaim qwen3-<revision>-head"].lines == ()


def test_an_autoscaler_that_goes_is_deleted_and_what_is_new_created() -> None:
    scaled = rendered(autoscaling={"maxReplicas": 2})
    assert _changes(scaled, rendered())["HorizontalPodAutoscaler/qwen3"] == "deleted"
    assert _changes(rendered(), scaled)["HorizontalPodAutoscaler/qwen3"] == "created"
    assert set(_changes(None, rendered()).values()) == {"created"}
    assert "objects would be made" in headline(None, rendered(), compare(None, rendered(), revision=""))


def test_replicas_that_a_file_leaves_out_stay_as_they_are() -> None:
    live = resource(replicas=7)
    assert as_in_cluster(resource(), live)["spec"]["replicas"] == 7
    assert as_in_cluster(resource(replicas=2), live)["spec"]["replicas"] == 2
    assert "replicas" not in as_in_cluster(resource(), None)["spec"]


def test_a_spec_of_which_nothing_can_be_made_is_one_sentence() -> None:
    with pytest.raises(Trouble, match=r"qwen3: .*hostNetwork"):
        rendered(podTemplate={"spec": {"hostNetwork": True}})


def test_the_settings_of_the_operator_are_read_from_its_deployment() -> None:
    container = {
        "env": [
            {"name": "SUNDOG_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "SUNDOG_IDENTITY", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "SUNDOG_SERVING_IMAGE", "value": "acme/serving:1"},
        ]
    }
    deployment = {"metadata": {"namespace": "ops"}, "spec": {"template": {"spec": {"containers": [container]}}}}
    config = from_environment(operator_environment(deployment))
    assert (config.namespace, config.serving_image) == ("ops", "acme/serving:1")


MADE = {
    "Qwen/Qwen3-0.6B": "qwen3-0-6b",
    "hf://meta-llama/Llama-3.1-8B-Instruct": "llama-3-1-8b-instruct",
    "pvc://models": "models",
    "pvc://models/qwen/latest": "latest",
    "hf://acme/7b": "model-7b",
    f"hf://acme/{'very-' * 12}long": "very-very-very-very-very-very-very-very",
}


@pytest.mark.parametrize("model", MADE)
def test_a_name_is_made_after_the_model(model: str) -> None:
    made = make(model, name=None, namespace="d", engine="vllm", gpus=None, replicas=None, arguments=())
    assert made["metadata"]["name"] == MADE[model]
    assert made["spec"] == {"model": {"uri": model}, "resources": {"limits": {"nvidia.com/gpu": "1"}}}


def test_a_manifest_has_no_more_in_it_than_was_asked_for() -> None:
    made = make("a/b", name="x", namespace="d", engine="fake", gpus=None, replicas=None, arguments=())
    assert made["spec"] == {"model": {"uri": "a/b"}, "engine": {"name": "fake"}}
    made = make(
        "a/b", name="x", namespace="d", engine="vllm", gpus=4, replicas=2, arguments=("--max-model-len=8192", "seed=1")
    )
    assert made["spec"]["parallelism"] == {"tensor": 4}
    assert made["spec"]["engine"] == {"name": "vllm", "args": {"max-model-len": 8192, "seed": 1}}
