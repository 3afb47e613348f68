"""Each failure that a person can cause is found by the first command they try, with its cure.

All at once in one namespace, with a real operator and the statuses that it writes; only kubelet and Ray are played.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from sundog_operator.core.names import COMPONENT_LABEL, NAME_LABEL, WORKER, Manifest
from tests.apiserver.cli.command_line import CommandLine
from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.played import running
from tests.apiserver.operator.world import until

pytestmark = pytest.mark.apiserver


@dataclass(frozen=True, slots=True)
class Failure:
    """What goes wrong, and what must be told."""

    reason: str
    cure: str
    """Part of it."""
    pod: Manifest = field(default_factory=dict)
    """Status of the worker pod; empty: it runs, and its replica does not start."""
    serve: str = ""
    """What Ray Serve says."""
    spec: Manifest = field(default_factory=dict)


def _pending(message: str) -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def _waiting(reason: str, message: str, last: Manifest | None = None) -> Manifest:
    status = {
        "name": "engine",
        "image": "acme/llm:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
        **({"lastState": {"terminated": last}} if last else {}),
    }
    scheduled = {"type": "PodScheduled", "status": "True"}
    return {"phase": "Pending", "conditions": [scheduled], "containerStatuses": [status]}


def _start_failed(reason: str, sentence: str) -> str:
    return f"Traceback …\nsundog_serving.errors.EngineStartError: {reason}: {sentence}"


GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
FAILURES: dict[str, Failure] = {
    "no-claim": Failure(
        "PersistentVolumeClaimNotFound",
        "create the claim in the same namespace",
        pod=_pending('0/1 nodes are available: persistentvolumeclaim "models" not found.'),
        spec={"model": {"uri": "pvc://models/qwen"}},
    ),
    "no-volume": Failure(
        "PersistentVolumeClaimNotBound",
        "name a StorageClass that exists",
        pod=_pending("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        spec={"model": {"uri": "pvc://models/qwen"}},
    ),
    "no-image": Failure(
        "ImagePullFailed", "correct spec.engine.image", pod=_waiting("ImagePullBackOff", "failed to resolve reference")
    ),
    "no-secret": Failure(
        "SecretNotFound",
        "create the Secret in the same namespace",
        pod=_waiting("CreateContainerConfigError", 'secret "hf-token" not found'),
        spec={"model": {"uri": "hf://a/b", "tokenSecretRef": {"name": "hf-token"}}},
    ),
    "no-key": Failure(
        "SecretKeyNotFound",
        "add the key to the Secret",
        pod=_waiting("CreateContainerConfigError", "couldn't find key HF_TOKEN in Secret team/hf-token"),
    ),
    "no-gpu": Failure(
        "InsufficientGPU",
        "add a node with GPUs",
        pod=_pending("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        spec=GPU,
    ),
    "no-node": Failure(
        "Unschedulable", "change spec.resources", pod=_pending("0/1 nodes are available: 1 Insufficient memory.")
    ),
    "crashes": Failure(
        "ContainerCrashed",
        "kubectl sundog logs crashes --previous",
        pod=_waiting("CrashLoopBackOff", "back-off", {"exitCode": 3, "reason": "Error"}),
    ),
    "no-memory": Failure(
        "OutOfMemory",
        "raise spec.resources.limits.memory",
        pod=_waiting("CrashLoopBackOff", "back-off", {"exitCode": 137, "reason": "OOMKilled"}),
    ),
    "empty-model": Failure(
        "ModelNotFound",
        "or put the model there",
        serve=_start_failed("ModelNotFound", "/mnt/model/qwen has no config.json; copy the model there"),
        spec={"model": {"uri": "pvc://models/qwen"}},
    ),
    "unreadable-model": Failure(
        "ModelUnreadable",
        "chmod -R a+rX",
        serve=_start_failed("ModelUnreadable", "/mnt/model/qwen/config.json may not be read by user 1000"),
    ),
    "no-model": Failure(
        "ModelInvalid",
        "give a model that this engine can load",
        serve=_start_failed("ModelInvalid", "/mnt/model/qwen/config.json is not JSON"),
    ),
    "wrong-argument": Failure(
        "EngineArgumentInvalid",
        "correct the entry of spec.engine.args",
        serve=_start_failed("EngineArgumentInvalid", "max-model-length is no argument; max-model-len is"),
        spec={"engine": {"args": {"max-model-length": 5}}},
    ),
    "wrong-version": Failure(
        "EngineVersionUnsupported",
        "choose another spec.engine.image",
        serve=_start_failed("EngineVersionUnsupported", "vLLM 0.1 is not supported"),
    ),
}


async def test_each_failure_is_found_by_doctor_status_and_explain_with_its_cure(
    place: Place, sundog: CommandLine
) -> None:
    def play(pod: Manifest, address: str) -> Manifest:
        labels = pod["metadata"]["labels"]
        failure = FAILURES.get(labels.get(NAME_LABEL, ""))
        if failure is None or labels[COMPONENT_LABEL] != WORKER:
            return running(pod, address)
        return failure.pod or _not_ready(running(pod, address))

    place.kubelet.status = play
    place.heads.failures = {name: failure.serve for name, failure in FAILURES.items() if failure.serve}
    for name, failure in FAILURES.items():
        await place.api.create("LLMDeployment", llm_deployment(name, **failure.spec))
    async with place.proxy() as proxy:
        await place.operator(proxy).start()
        for name, failure in FAILURES.items():

            async def is_told(name: str = name, reason: str = failure.reason) -> bool:
                return await place.api.ready_reason(name) == ("False", reason)

            await until(is_told, f"{name} is told as {failure.reason}")
        found = (await sundog("doctor", "-o", "json", code=1)).json
        status = {each["name"]: each for each in (await sundog("status", "-o", "json")).json}
        pictures = await sundog("status")
    for name, failure in FAILURES.items():
        (finding,) = [each for each in found if each["found"].startswith(f"{place.namespace}/{name}: ")]
        assert finding["state"] == "wrong"
        assert failure.reason in finding["found"]
        for cure in (finding["cure"], status[name]["cure"]):
            assert failure.cure in cure, name
        assert status[name]["reason"] == failure.reason
        pictures.says(f"{place.namespace}/{name}", failure.reason)
        explained = await sundog("explain", name)
        explained.says("Why not ready", failure.reason, failure.cure)
        assert ("Stalled" in explained.out) == status[name]["stalled"]


def _not_ready(status: Manifest) -> Manifest:
    conditions: list[dict[str, Any]] = [
        {**each, "status": "False"} if each["type"] in {"Ready", "ContainersReady"} else each
        for each in status["conditions"]
    ]
    containers = [{**each, "ready": False, "started": False} for each in status["containerStatuses"]]
    return {**status, "conditions": conditions, "containerStatuses": containers}


async def test_pods_that_a_quota_refuses_are_found_with_the_quota(place: Place, sundog: CommandLine) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-gpus"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    await place.api.create("ResourceQuota", quota)
    await place.api.create("LLMDeployment", llm_deployment("refused", **GPU))
    async with place.proxy() as proxy:
        await place.operator(proxy).start()

        async def is_told() -> bool:
            return await place.api.ready_reason("refused") == ("False", "PodsRefused")

        await until(is_told, "it is told as PodsRefused")
        (await sundog("explain", "refused")).says("PodsRefused", "exceeded quota", "raise the ResourceQuota")
        (await sundog("doctor", code=1)).says("no-gpus is used up", "requests.nvidia.com/gpu", "PodsRefused")
