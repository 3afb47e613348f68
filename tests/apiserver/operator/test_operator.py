"""The operator against a real API server: what it makes, and that it then leaves everything alone."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from aiohttp import web

from tests.apiserver.operator import rights
from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.played import router_load
from tests.apiserver.operator.proxy import Seen
from tests.apiserver.operator.world import OF_A_RESOURCE, until

pytestmark = pytest.mark.apiserver


async def test_a_resource_becomes_ready_and_the_next_version_of_the_operator_writes_nothing(place: Place) -> None:
    async with place.proxy() as proxy:
        first = place.operator(proxy)
        await first.start()
        await place.api.create("LLMDeployment", llm_deployment(autoscaling={"maxReplicas": 2}))
        await until(place.is_ready, "qwen3 is ready")
        await until(lambda: place.quiet(proxy), "no more is written")
        assert await first.stop() == 0
        made = await place.api.versions()
        assert {kind for kind, _ in made} == {"LLMDeployment", *OF_A_RESOURCE, "Event"}
        written = len(proxy.writes)

        # An upgrade brings another image for revisions to come; those that are there keep theirs.
        second = place.operator(proxy, serving_image="elsewhere/serving:9")
        await second.start()
        await second.leads()

        async def has_looked() -> bool:
            return await second.metric('sundog_passes_total{result="unchanged"}') >= 1

        await until(has_looked, "a pass was made")
        await until(lambda: place.quiet(proxy), "no more is written")
        assert proxy.writes[written:] == []
        assert await place.api.versions() == made
        assert await second.metric('sundog_passes_total{result="changed"}') == 0
        assert await second.metric('sundog_resources{ready="True"}') == 1
        assert (await second.get("/healthz"))[0] == 200
        assert (await second.get("/readyz"))[0] == 200
        assert await second.stop() == 0


async def test_once_ready_no_head_is_asked_and_no_pass_is_made(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await until(lambda: place.quiet(proxy), "no more is written")
        passes = await operator.metric("sundog_pass_seconds_count")
        requests = len(place.heads.requests)
        await asyncio.sleep(5)  # nothing shall happen: there is no condition to wait for
        assert await operator.metric("sundog_pass_seconds_count") == passes
        assert len(place.heads.requests) == requests


async def test_what_someone_else_changes_or_deletes_is_put_right(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await until(lambda: place.quiet(proxy), "no more is written")
        before = await place.api.snapshot()
        await place.api.merge("Service", "qwen3", {"spec": {"selector": {"sundog.dev/component": "mine"}}})
        await place.api.merge("Deployment", "qwen3-router", {"spec": {"replicas": 7}})
        await place.api.delete("NetworkPolicy", "qwen3-head")
        await place.api.merge(
            "ConfigMap", "qwen3-router", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}
        )

        async def is_right() -> bool:
            now = await place.api.snapshot()
            return _without_history(now) == _without_history(before)

        await until(is_right, "everything is as before")


def _without_history(snapshot: dict[str, object]) -> object:
    """Leave out who wrote when and how often, and what other controllers tell of it."""
    drop = {"managedFields", "generation", "status", "deployment.kubernetes.io/revision"}

    def without(value: object) -> object:
        if isinstance(value, dict):
            return {key: without(entry) for key, entry in value.items() if key not in drop}
        return [without(entry) for entry in value] if isinstance(value, list) else value

    return {name: without(o) for name, o in snapshot.items() if not name.startswith("LLMDeployment")}


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_deleting_the_resource_leaves_nothing_behind(place: Place, policy: str) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await until(lambda: place.quiet(proxy), "no more is written")
        written = len(proxy.writes)
        await place.api.delete("LLMDeployment", "qwen3", propagationPolicy=policy)

        async def left() -> list[str]:
            ours = [kind for kind, name in await place.api.versions() if name.startswith("qwen3") and kind != "Event"]
            pods = await place.api.list("Pod")
            return ours + [pod["metadata"]["name"] for pod in pods]

        async def nothing_left() -> bool:
            return not await left()

        await until(nothing_left, "everything is gone")
        await until(lambda: place.quiet(proxy), "no more is written")
        assert proxy.writes[written:] == [], "owner references clean up, not the operator"
        assert await operator.metric('sundog_resources{ready="True"}') == 0


async def test_a_resource_that_is_deleted_while_the_operator_is_away_leaves_nothing_behind(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await operator.stop()
        written = len(proxy.writes)
        await place.api.delete("LLMDeployment", "qwen3")
        again = place.operator(proxy)
        await again.start()
        await again.leads()

        async def nothing_left() -> bool:
            ours = [name for kind, name in await place.api.versions() if name.startswith("qwen3") and kind != "Event"]
            return not ours and not await place.api.list("Pod")

        await until(nothing_left, "everything is gone")
        assert proxy.writes[written:] == []


async def test_a_change_of_the_model_replaces_the_revision(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        old = {manifest["metadata"]["name"] for manifest in await place.api.list("Deployment")}
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"model": {"uri": "hf://Qwen/Qwen3-1.7B"}}})

        async def replaced() -> bool:
            now = {manifest["metadata"]["name"] for manifest in await place.api.list("Deployment")}
            return len(now) == 3 and now & old == {"qwen3-router"} and await place.is_ready()

        await until(replaced, "only the new revision is there")
        assert len(await place.api.list("PersistentVolumeClaim")) == 1


async def test_every_right_is_used_and_no_other_is_needed(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        autoscaling = {"minReplicas": 0, "idleSeconds": 10, "maxReplicas": 2}
        nothing_kept = {"revisionHistoryLimit": 0}
        spec = llm_deployment(replicas=2, autoscaling=autoscaling, rollout=nothing_kept)
        await place.api.create("LLMDeployment", spec)
        await until(place.is_ready, "qwen3 is ready")
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"replicas": 1}})  # marks a pod

        async def has_one_worker() -> bool:
            return await place.is_ready() and len(await place.api.list("Pod")) == 4

        await until(has_one_worker, "one worker is left")
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"model": {"uri": "hf://Qwen/Qwen3-1.7B"}}})

        async def has_one_revision() -> bool:
            return await place.is_ready() and len(await place.api.list("Deployment")) == 3

        await until(has_one_revision, "the old revision is gone")
        place.loads.router = router_load(idle_seconds=100)

        async def is_at_zero() -> bool:
            return await place.api.ready_reason("qwen3") == ("True", "ScaledToZero")

        await until(is_at_zero, "no request came for a while")
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"autoscaling": None}})

        async def has_no_autoscaler() -> bool:
            return not await place.api.list("HorizontalPodAutoscaler")

        await until(has_no_autoscaler, "the autoscaler is gone")
        await operator.stop()
        assert [seen for seen in proxy.seen if seen.status == 403] == []
        granted = rights.triples([*rights.rules(rights.WORK), *rights.OWN, *rights.CLUSTER])
        assert proxy.used() == granted | {("keda.sh", "scaledobjects", "list")}  # which is how KEDA is looked for


async def test_no_token_is_told_to_anybody(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy, log_level="DEBUG")
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        place.heads.answer = web.Response(status=403, text="who are you?")
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"replicas": 2}})

        async def is_told() -> bool:
            return "refused the operator's token" in json.dumps(await place.api.get("LLMDeployment", "qwen3"))

        await until(is_told, "the head's refusal is told")
        await operator.stop()
        secrets = [
            base64.b64decode(value).decode(errors="replace")
            for secret in await place.api.list("Secret")
            for value in secret["data"].values()
        ]
        assert len(secrets) == 3
        told = operator.log_file.read_text()
        told += json.dumps(
            [await place.api.list(kind) for kind in ("LLMDeployment", "Event", "ConfigMap", "Deployment")]
        )
        assert [secret for secret in [*secrets, place.token] if secret in told] == []


async def test_what_belongs_to_someone_else_is_left_alone_and_told(place: Place) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "qwen3"},
        "spec": {"selector": {"app": "by-hand"}, "ports": [{"port": 80}]},
    }
    async with place.proxy() as proxy:
        by_hand = await place.api.create("Service", service)
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())

        async def is_told() -> bool:
            found = await place.api.get("LLMDeployment", "qwen3")
            return "Service qwen3 exists already and does not belong" in json.dumps(found)

        await until(is_told, "the foreign Service is told")
        assert await place.api.get("Service", "qwen3") == by_hand
        await place.api.delete("Service", "qwen3")
        await until(place.is_ready, "qwen3 is ready")


async def test_a_resource_made_anew_waits_for_the_end_of_the_old_one(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await place.api.delete("LLMDeployment", "qwen3")
        again = await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "the new qwen3 is ready")

        async def is_new() -> bool:
            owners = {
                reference["uid"]
                for kind in ("Deployment", "Service")
                for manifest in await place.api.list(kind)
                for reference in manifest["metadata"]["ownerReferences"]
            }
            return owners == {again["metadata"]["uid"]}

        await until(is_new, "everything belongs to the new one")


async def test_what_the_api_server_refuses_is_told_in_its_own_words_and_delays_nobody(place: Place) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"persistentvolumeclaims": "1"}},
    }
    async with place.proxy() as proxy:
        await place.api.create("ResourceQuota", quota)
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment("first"))
        await until(lambda: place.is_ready("first"), "the first is ready")
        await place.api.create("LLMDeployment", llm_deployment("second"))

        async def is_told() -> bool:
            found = await place.api.get("LLMDeployment", "second")
            return "apply PersistentVolumeClaim" in json.dumps(found) and "exceeded quota: few" in json.dumps(found)

        await until(is_told, "the quota is told", seconds=30)
        await place.api.merge("LLMDeployment", "first", {"spec": {"router": {"replicas": 3}}})
        await until(lambda: place.is_ready("first"), "the first has changed meanwhile")
        refused = [seen for seen in proxy.writes if seen.status == 403]
        assert len(refused) < 30, "backed off"
        await place.api.delete("ResourceQuota", "few")
        await until(lambda: place.is_ready("second"), "the second is ready", seconds=90)


@pytest.mark.parametrize("minor", ["33", "37"])
async def test_a_deletion_that_the_watch_lost_is_found(place: Place, minor: str) -> None:
    async with place.proxy() as proxy:

        async def version(seen: Seen) -> web.StreamResponse | None:
            # Before 1.34 kopf lists what exists before it watches.
            return web.json_response({"major": "1", "minor": minor}) if seen.path == "/version" else None

        proxy.before = version
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await until(lambda: place.quiet(proxy), "no more is written")
        # The operator's own lists have pages.
        of_kopf = [seen for seen in proxy.seen if seen.verb == "list" and "limit" not in seen.query]
        assert bool(of_kopf) == (minor == "33")
        gone = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}).encode()
        hidden = asyncio.Event()

        async def forget(seen: Seen) -> web.StreamResponse | None:
            if seen.verb == "watch" and seen.resource == "services" and "resourceVersion" in seen.query:
                await hidden.wait()
                return web.Response(body=gone + b"\n")
            return None

        proxy.before = forget
        proxy.cut_streams()
        await place.api.delete("Service", "qwen3-replicas")
        hidden.set()

        async def is_back() -> bool:
            return await place.api.get("Service", "qwen3-replicas") is not None

        await until(is_back, "the Service is there again", seconds=30)
        assert operator.logged("watch had lost")
