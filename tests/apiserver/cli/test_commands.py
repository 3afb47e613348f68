"""`kubectl sundog` against a real API server: deploy, status, explain, render, diff, doctor, and what goes wrong."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sundog_operator.kube.resources import Resource
from tests.apiserver.cli.command_line import CommandLine
from tests.apiserver.operator.conftest import Place
from tests.apiserver.operator.world import until
from tests.cluster import Cluster
from tests.unit.cli.engine import WHOLE, engine

EXAMPLE = Path(__file__).parents[3] / "examples" / "fake-engine.yaml"

pytestmark = pytest.mark.apiserver


async def test_from_deploy_to_diff_each_command_tells_the_truth(
    place: Place, sundog: CommandLine, tmp_path: Path
) -> None:
    deploy = ("deploy", "hf://acme/fake-model", "--engine=fake", "--arg=tokens-per-second=20")
    assert yaml.safe_load((await sundog(*deploy, "--dry-run")).out)["metadata"]["name"] == "fake-model"
    assert await place.api.list("LLMDeployment") == [], "a dry run applies nothing"

    (await sundog(*deploy, "--replicas=2", "--name=fake")).says("applied", "kubectl sundog chat fake")
    (await sundog("status", "fake")).says("NotVisited", "no operator has looked at it yet")

    async with place.proxy() as proxy:
        await place.operator(proxy).start()
        await until(lambda: place.is_ready("fake"), "fake is ready")
        # Applying it once more with --wait: it is there already, and nothing restarts.
        (await sundog(*deploy, "--replicas=2", "--name=fake", "--wait", "--timeout=60")).says("fake is ready")

        status = await sundog("status")
        status.says("2 of 2 replicas ready", "AllReplicasReady", "hf://acme/fake-model", "(current", "router: 2 of 2")
        told = (await sundog("status", "fake", "-o", "json")).json
        assert (told["ready"], told["ready_replicas"], told["cure"]) == ("True", 2, "")
        assert [len(revision["workers"]) for revision in told["revisions"]] == [2]
        assert [each["name"] for each in (await sundog("status", "-o", "json")).json] == ["fake"]
        (await sundog("explain", "fake")).says(
            "2 asked for by spec.replicas; 2 there, 2 of them ready.",
            "by kubectl-sundog",
            "is what the spec asks for.",
            "tokens-per-second=20",
            "AllReplicasReady",
        )

        file = tmp_path / "fake.yaml"
        file.write_text((await sundog(*deploy, "--name=fake", "--dry-run")).out)
        # replicas is not in the file: whoever scales keeps it.
        (await sundog("diff", "-f", str(file))).says("nothing would change")
        rendered = list(yaml.safe_load_all((await sundog("render", "-f", str(file))).out))
        made = {
            (kind, manifest["metadata"]["name"])
            for kind in {each["kind"] for each in rendered}
            for manifest in await place.api.list(kind)
        }
        assert {_without_hash(*each) for each in made} >= {
            _without_hash(each["kind"], each["metadata"]["name"]) for each in rendered
        }
        file.write_text(file.read_text().replace("tokens-per-second: 20", "tokens-per-second: 30"))
        changed = await sundog("diff", "-f", str(file), code=1)
        changed.says("a new revision", "-      tokens-per-second: 20", "+      tokens-per-second: 30")


def _without_hash(kind: str, name: str) -> tuple[str, str]:
    parts = [part for part in name.split("-") if len(part) != 8 or not set(part) <= set("0123456789abcdef")]
    return kind, "-".join(parts)


async def test_doctor_finds_what_a_cluster_lacks(place: Place, sundog: CommandLine) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"count/secrets": "0"}},
    }
    await place.api.create("ResourceQuota", quota)
    await sundog("deploy", "acme/model", "--gpus=8", "--name=large")

    async def is_counted() -> bool:
        found = await place.api.get("ResourceQuota", "few")
        return bool(found and found.get("status", {}).get("used"))

    await until(is_counted, "the quota is counted")
    found = (await sundog("doctor", "-o", "json", code=1)).json
    by_check = {each["check"]: each for each in found}
    assert by_check["Kubernetes"]["state"] == "ok"
    assert by_check["CustomResourceDefinition"]["state"] == "ok", by_check["CustomResourceDefinition"]
    assert by_check["Operator"]["state"] == "wrong"
    assert by_check["Operator"]["cure"].startswith("helm upgrade --install sundog")
    assert by_check["Custom metrics"]["state"] == "warning"
    assert "ask for 8 nvidia.com/gpu, and the nodes offer 0" in by_check["GPUs"]["found"]
    assert "device plugin" in by_check["GPUs"]["cure"]
    assert "ResourceQuota" in by_check["Quota"]["found"]
    assert "count/secrets" in by_check["Quota"]["found"]
    assert by_check["StorageClass"]["state"] == "ok"
    (await sundog("doctor", code=1)).says("wrong", "→ helm upgrade --install sundog")


ERRORS = {
    "no such resource": (("status", "nothing"), 'There is no LLMDeployment "nothing" in namespace'),
    "no such resource to explain": (("explain", "nothing"), "there is none at all"),
    "no such resource to talk to": (("chat", "nothing", "hello"), 'There is no LLMDeployment "nothing"'),
    "no such resource to read": (("logs", "nothing"), 'There is no LLMDeployment "nothing"'),
    "no such resource to load": (("bench", "nothing"), 'There is no LLMDeployment "nothing"'),
    "a model that is none": (("deploy", "s3://bucket/model"), "'s3://bucket/model' is not a model"),
    "an argument without a value": (("deploy", "a/b", "--arg=seed"), "is not NAME=VALUE"),
    "an argument that is Sundog's": (("deploy", "a/b", "--arg=port=1"), "port"),
    "a name that is none": (("deploy", "a/b", "--name=Wrong"), "Wrong"),
    "a name and everywhere": (("status", "x", "-A"), "A name and -A do not go together"),
    "no such file": (("render", "-f", "/nowhere.yaml"), "/nowhere.yaml cannot be read: No such file or directory."),
    "no such context": (("status", "--context=moon"), "moon"),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_wrong_input_gets_one_sentence(sundog: CommandLine, case: str) -> None:
    arguments, sentence = ERRORS[case]
    done = await sundog(*arguments, code=2)
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err


FILES = {
    "no YAML": ("a: [", "is no YAML: line 1"),
    "no object": ("- 1\n", "no Kubernetes object"),
    "another object": ("kind: ConfigMap\napiVersion: v1\n", "has no LLMDeployment in it"),
    "another version": (
        "kind: LLMDeployment\napiVersion: sundog.dev/v9\nmetadata: {name: a}\n",
        "knows sundog.dev/v1alpha1",
    ),
    "an unknown field": (
        (
            "kind: LLMDeployment\napiVersion: sundog.dev/v1alpha1\nmetadata: {name: a}\n"
            "spec: {model: {uri: a/b}, replica: 1}\n"
        ),
        "spec.replica: there is no such field",
    ),
}


@pytest.mark.parametrize("case", FILES)
async def test_a_file_that_cannot_be_used_is_told_with_its_place(
    sundog: CommandLine, tmp_path: Path, case: str
) -> None:
    text, sentence = FILES[case]
    file = tmp_path / "file.yaml"
    file.write_text(text)
    done = await sundog("render", "-f", str(file), code=2)
    done.says(f"error: {file}", sentence)


async def test_a_cluster_without_sundog_or_without_an_answer_is_told(
    place: Place, sundog: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(place.cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    away = tmp_path / "away.yaml"
    away.write_text(yaml.safe_dump(config))
    sundog.use(away)
    for command in ("status", "doctor"):
        (await sundog(command, code=2)).says("The API server could not be reached", "Check the context")
    sundog.use(place.cluster.kubeconfig)
    monkeypatch.setattr(
        "sundog_cli.cluster.LLM_DEPLOYMENT", Resource("sundog.dev/v0", "LLMDeployment", "llmdeployments")
    )
    for command in (("status",), ("explain", "any")):
        (await sundog(*command, code=2)).says("The cluster does not know LLMDeployments: install Sundog (helm")
    sundog.use(tmp_path / "none.yaml")
    (await sundog("status", code=2)).says("No credentials for a Kubernetes API server", "KUBECONFIG")


async def test_what_a_person_may_not_do_is_told_with_the_right_that_is_missing(
    place: Place, sundog: CommandLine, tmp_path: Path
) -> None:
    await sundog("deploy", "acme/model", "--name=mine", "--engine=fake")
    kubectl = place.cluster.kubectl
    where = f"--namespace={place.namespace}"
    await asyncio.to_thread(kubectl, "create", "serviceaccount", "guest", where)
    token = (await asyncio.to_thread(kubectl, "create", "token", "guest", where)).strip()
    config = yaml.safe_load(place.cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    guest = tmp_path / "guest.yaml"
    guest.write_text(yaml.safe_dump(config))
    sundog.use(guest)
    for command in (("status",), ("deploy", "a/b")):
        (await sundog(*command, code=2)).says("error: You may not do this", "llmdeployments", "Ask for a role")
    found = (await sundog("doctor", "-o", "json")).json
    assert {each["state"] for each in found} <= {"ok", "unknown"}, "what may not be looked at is not wrong"
    assert any("you may not list nodes" in each["found"] for each in found)

    grant = ("create", "role", "reader", where, "--verb=get,list", "--resource=llmdeployments.sundog.dev")
    await asyncio.to_thread(kubectl, *grant)
    bind = ("create", "rolebinding", "reader", where, "--role=reader", f"--serviceaccount={place.namespace}:guest")
    await asyncio.to_thread(kubectl, *bind)
    (await sundog("status", "mine")).says("acme/model", "not shown: you may not list pods in namespace")
    sundog.use(place.cluster.kubeconfig)
    config["users"][0]["user"] = {"token": "wrong"}
    guest.write_text(yaml.safe_dump(config))
    sundog.use(guest)
    (await sundog("status", code=2)).says("does not accept your credentials", "--context")


async def test_someone_elses_field_is_not_taken_without_a_word(place: Place, sundog: CommandLine) -> None:
    manifest = yaml.safe_load((await sundog("deploy", "acme/one", "--name=shared", "--dry-run")).out)
    path = place.api.path("LLMDeployment", "shared") + "?fieldManager=argocd"
    await place.api.request("PATCH", path, manifest, "application/apply-patch+yaml")
    (await sundog("deploy", "acme/two", "--name=shared", code=2)).says("argocd", "--force-conflicts")
    await sundog("deploy", "acme/two", "--name=shared", "--force-conflicts")


async def test_a_conversation_keeps_what_was_said(sundog: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    await sundog("deploy", "a/b", "--name=qwen3", "--engine=fake")
    asked: list[dict[str, Any]] = []
    async with engine(*WHOLE, asked=asked) as there:
        monkeypatch.setattr("sys.stdin", io.StringIO("first\n\nsecond\n"))
        done = await sundog("chat", "qwen3", "--system=be brief", "--max-tokens=9", f"--url={there.url}")
    assert done.out == "one two\none two\n"
    assert [[message["content"] for message in each["messages"]] for each in asked] == [
        ["be brief", "first"],
        ["be brief", "first", "one two", "second"],
    ]
    assert {each["max_tokens"] for each in asked} == {9}
    (await sundog("chat", "qwen3", "hi", code=2)).says("qwen3 has no Service yet: kubectl sundog status qwen3")
    (await sundog("chat", "qwen3", "hi", "--url=http://127.0.0.1:1/v1", code=2)).says("qwen3 did not answer")
    (await sundog("logs", "qwen3", code=2)).says("No worker pod of qwen3 runs yet: kubectl sundog status qwen3")


async def test_kubectl_finds_the_plugin(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path(sys.executable).with_name("kubectl-sundog")
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    rendered = await asyncio.to_thread(cluster.kubectl, "sundog", "render", "-f", str(EXAMPLE))
    assert {each["kind"] for each in yaml.safe_load_all(rendered)} >= {"Deployment", "Service", "ConfigMap"}
