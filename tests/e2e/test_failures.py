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
