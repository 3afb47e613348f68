"""A GitOps tool beside everybody else who writes: it sees no difference, and takes nothing back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from sundog_operator.core.names import Manifest
from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.world import differences, until

pytestmark = pytest.mark.apiserver

MANAGER = "argocd-controller"
AGAIN_SECONDS = 0.2


async def apply(place: Place, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
    path = place.api.path("LLMDeployment", manifest["metadata"]["name"])
    query = f"?fieldManager={MANAGER}&force=true" + ("&dryRun=All" if dry_run else "")
    found: Manifest = await place.api.request("PATCH", path + query, manifest, "application/apply-patch+yaml")
    return found


def as_git_sees_it(live: Manifest) -> dict[str, Any]:
    """What a tool compares: all but the status, what the server counts, and what others own."""
    metadata = {k: v for k, v in live["metadata"].items() if k not in {"resourceVersion", "managedFields"}}
    mine = [entry for entry in live["metadata"]["managedFields"] if entry["manager"] == MANAGER]
    return {"metadata": metadata, "spec": live["spec"], "mine": mine}


async def assert_no_difference(place: Place, manifest: Manifest) -> None:
    live = await place.api.get("LLMDeployment", "qwen3")
    assert live
    applied = await apply(place, manifest, dry_run=True)
    assert differences(as_git_sees_it(applied), as_git_sees_it(live)) == []


async def scale(place: Place, replicas: int) -> None:
    await place.api.merge("LLMDeployment", "qwen3", {"spec": {"replicas": replicas}}, "scale")


async def test_a_gitops_tool_sees_no_difference_while_replicas_and_revisions_move(place: Place) -> None:
    # What stands in Git: no replicas.
    manifest = llm_deployment(autoscaling={"class": "External"})
    applied = 0

    async def keep_applying() -> None:
        nonlocal applied
        while True:
            await apply(place, manifest)
            applied += 1
            await asyncio.sleep(AGAIN_SECONDS)

    async with place.proxy() as proxy:
        await place.operator(proxy).start()
        await apply(place, manifest)
        await until(place.is_ready, "qwen3 is ready")
        tool = asyncio.create_task(keep_applying())
        try:
            for replicas in (3, 1, 2):
                await scale(place, replicas)
                await assert_no_difference(place, manifest)
                await until(place.is_ready, f"{replicas} replicas")
                await assert_no_difference(place, manifest)
                live = await place.api.get("LLMDeployment", "qwen3")
                assert live
                assert live["spec"]["replicas"] == replicas
            # A commit: another revision, and the number of replicas stays the autoscaler's.
            manifest["spec"]["engine"] = {"args": {"max-model-len": 1024}}
            await apply(place, manifest)
            await assert_no_difference(place, manifest)
            await until(place.is_ready, "the new revision")
            await assert_no_difference(place, manifest)
            seen = applied
            before = await place.api.get("LLMDeployment", "qwen3")
            await until(lambda: applied >= seen + 3, "the tool has applied again")
            after = await place.api.get("LLMDeployment", "qwen3")
            assert before
            assert after
            # What is applied over and over writes nothing.
            assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
            assert after["spec"]["replicas"] == 2
            conditions = {each["type"]: each["reason"] for each in after["status"]["conditions"]}
            assert conditions["AutoscalingActive"] == "External"
        finally:
            tool.cancel()
            with suppress(asyncio.CancelledError):
                await tool
