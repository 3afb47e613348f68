"""Failures that a person can cause: each ends in one sentence of the Ready condition, with the cause and the cure."""

from __future__ import annotations

import shutil

import pytest

from tests.e2e import vllm
from tests.e2e.site import Site
from tests.models import model


async def test_what_kubernetes_lacks_is_told(site: Site) -> None:
    """Four resources at once, each with a fault of its own: none delays another."""
    site.apply("claim", engine={"name": "vllm"}, model={"uri": "pvc://nowhere/model"})
    site.apply("image", engine={"name": "fake", "image": "localhost/sundog-nothing:1"})
    site.apply("secret", engine={"name": "fake"}, model={"uri": "hf://a/b", "tokenSecretRef": {"name": "none"}})
    site.apply("gpu", resources={"limits": {"nvidia.com/gpu": "1"}})
    claim = await site.until_reason("claim", "PersistentVolumeClaimNotFound")
    assert claim == (
        f'PersistentVolumeClaim "nowhere" does not exist in namespace "{site.namespace}"; create it, or name another'
    )
    image = await site.until_reason("image", "ImagePullFailed")
    assert image.startswith("image localhost/sundog-nothing:1 cannot be pulled: ")
    assert "check its name and tag" in image
    secret = await site.until_reason("secret", "SecretNotFound")
    assert secret == (
        f'Secret "none" does not exist in namespace "{site.namespace}"; create it, or name another in the spec'
    )
    gpu = await site.until_reason("gpu", "InsufficientGPU")
    assert gpu.startswith("no node has enough free nvidia.com/gpu for pod gpu-")
    assert "add a GPU node" in gpu
    # What was missing comes, and the deployment goes on by itself.
    site.kubectl("create", "secret", "generic", "none", "--from-literal=HF_TOKEN=x")
    await site.until_ready("secret", replicas=1)


# Stops the process that hears SIGTERM in a worker.
_DEAFEN = """
import glob, os, signal
for path in glob.glob("/proc/[0-9]*/cmdline"):
    if open(path).read().split("\\0")[1:3] == ["-m", "sundog_serving.ray_node"]:
        os.kill(int(path.split("/")[2]), signal.SIGSTOP)
"""


async def test_a_worker_that_does_not_hear_that_it_must_end_is_ended(site: Site) -> None:
    """As one that is told so in the moment in which its container starts; its time to drain would be 13 minutes."""
    site.apply("deaf", engine={"name": "fake", "args": {"start-delay-seconds": 3600}})

    def runs() -> bool:
        states = [state for pod in site.pods("deaf", "worker") for state in pod["status"].get("containerStatuses", [])]
        return any("running" in state["state"] for state in states)

    await site.until("its container runs", runs)
    (worker,) = site.pods("deaf", "worker")
    assert worker["spec"]["terminationGracePeriodSeconds"] == 780
    site.kubectl("exec", worker["metadata"]["name"], "--", "python3", "-c", _DEAFEN)
    site.kubectl("scale", "llmdeployment/deaf", "--replicas=0")
    worker_pods = "sundog.dev/llmdeployment=deaf,sundog.dev/component=worker"
    await site.until("it has gone", lambda: not site.list("pods", worker_pods))


@pytest.mark.vllm
async def test_what_vllm_refuses_is_told_in_its_words_and_the_cure_is_taken(site: Site) -> None:
    """Three folders that hold no model, and an argument that there is not; all at once."""
    models = vllm.offer(site)
    cases = {"empty": "ModelNotFound", "unreadable": "ModelUnreadable", "text": "ModelInvalid"}
    for folder in cases:
        site.apply(folder, **vllm.spec(folder))
    site.apply("argument", **vllm.spec("tiny", args={"max-model-length": 512}))
    for folder, reason in cases.items():
        message = await site.until_reason(folder, reason)
        print(f"\n{reason}: {message}")
        assert f"/mnt/model/{folder}" in message
    message = await site.until_reason("argument", "EngineArgumentInvalid")
    assert "max-model-length" in message
    assert "max-model-len" in message.replace("max-model-length", ""), "the one that was meant"
    assert site.condition("argument", "Stalled")["status"] == "True"
    for folder in ("unreadable", "text"):
        site.kubectl("delete", "llmdeployment", folder)
    # The model comes after Serve has given up: it is tried again, and the deployment goes on by itself.
    shutil.copytree(model("tiny"), models / "empty", dirs_exist_ok=True)
    site.apply("argument", **vllm.spec("tiny"))
    await site.until_ready("empty", replicas=1)
    await site.until_ready("argument", replicas=1)
