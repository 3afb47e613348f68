"""Whatever edits an LLMDeployment has seen, it ends as a fresh one of its last spec (Acto's differential oracle).

A hundred of them side by side, each with edits of its own that come at any moment: `SUNDOG_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import Any

import pytest

from sundog_operator.core.names import NAME_LABEL, REVISION_LABEL, SERVED_ANNOTATION
from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.world import OF_A_RESOURCE, Api, differences, lasting, normalised, until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(1800)]

SEQUENCES = 100
EDITS = 3
SPREAD_SECONDS = 20.0
"""Over which the edits come: some within one pass, some when the one before has long been carried out."""
CHOICES: dict[str, list[Any]] = {
    "model": [{"uri": "hf://a/small"}, {"uri": "hf://a/large"}],
    "replicas": [0, 1, 2],
    "suspend": [False, True],
    "rollout": [{}, {"maxSurge": 0, "maxUnavailable": 1}],
}
# What tells of a past: how often and by whom something was written, and the numbers of revisions that were.
_OF_A_PAST = {
    "managedFields",
    "generation",
    "observedGeneration",
    "scaling",
    "revisions",
    "revision",
    SERVED_ANNOTATION,
}
_OF_A_PAST |= {"deployment.kubernetes.io/revision", "lastTransitionTime"}


def spec_of(draw: random.Random) -> dict[str, Any]:
    return {"router": {"replicas": 1}, **{field: draw.choice(values) for field, values in CHOICES.items()}}


async def edited(place: Place, name: str, draw: random.Random, specs: dict[str, dict[str, Any]]) -> None:
    """Edit one of them; one in three takes its last edit back."""
    before = specs[name]
    moments = sorted(draw.uniform(0, SPREAD_SECONDS) for _ in range(EDITS))
    waits = [moment - earlier for earlier, moment in zip((0, *moments), moments, strict=False)]
    for wait in waits:
        await asyncio.sleep(wait)
        field = draw.choice(list(CHOICES))
        before, specs[name] = specs[name], {**specs[name], field: draw.choice(CHOICES[field])}
        await put(place, name, specs[name])
    if draw.random() < 1 / 3:
        specs[name] = before
        await put(place, name, before)


async def put(place: Place, name: str, spec: dict[str, Any]) -> None:
    """As `kubectl replace` does it: fields that are left out go back to their defaults."""
    found = await place.api.get("LLMDeployment", name)
    assert found
    patch = {**dict.fromkeys(found["spec"]), **spec}
    patch["rollout"] = {**dict.fromkeys(found["spec"].get("rollout", {})), **spec["rollout"]}
    await place.api.merge("LLMDeployment", name, {"spec": patch})


async def gathered(api: Api) -> dict[str, dict[str, Any]]:
    """Everything that belongs to each LLMDeployment, without what differs by chance or tells of its past."""
    objects: dict[str, dict[str, Any]] = {}
    revisions: dict[str, str] = {}
    for resource in await api.list("LLMDeployment"):
        name = resource["metadata"]["name"]
        current = [each["hash"] for each in resource["status"]["revisions"] if each["current"]]
        revisions[name] = current[0]
        objects[name] = {"LLMDeployment": _normal(resource, name, api.namespace)}
    for kind in OF_A_RESOURCE:
        for manifest in await api.list(kind):
            labels = manifest["metadata"].get("labels") or {}
            name = labels.get(NAME_LABEL)
            if name is None or (kind == "ControllerRevision" and labels[REVISION_LABEL] != revisions[name]):
                continue
            manifest.pop("status", None)
            normal = _normal(manifest, name, api.namespace)
            objects[name][f"{kind} {normal['metadata']['name']}"] = normal
    return objects


def _normal(manifest: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    text = json.dumps(_without_past(lasting(manifest)), sort_keys=True).replace(name, "<name>")
    return dict(json.loads(normalised(text, namespace)))


def _without_past(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_past(entry) for key, entry in value.items() if key not in _OF_A_PAST}
        return {key: entry for key, entry in kept.items() if key != "annotations" or entry}
    return [_without_past(entry) for entry in value] if isinstance(value, list) else value


async def test_any_edits_end_where_a_fresh_create_of_the_last_spec_ends(place: Place) -> None:
    seed = int(os.environ.get("SUNDOG_SEED", random.SystemRandom().randrange(10**6)))
    print(f"SUNDOG_SEED={seed}")
    draw = random.Random(seed)
    specs = {f"seq{number:03}": spec_of(draw) for number in range(SEQUENCES)}
    draws = {name: random.Random(draw.random()) for name in specs}
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        for name, spec in specs.items():
            await place.api.create("LLMDeployment", llm_deployment(name, **spec))
        async with asyncio.TaskGroup() as edits:
            for name in list(specs):
                edits.create_task(edited(place, name, draws[name], specs))
        lasts = {json.dumps(spec, sort_keys=True): spec for spec in specs.values()}
        fresh = {f"new{number:03}": spec for number, spec in enumerate(lasts.values())}
        for name, spec in fresh.items():
            await place.api.create("LLMDeployment", llm_deployment(name, **spec))

        async def unready() -> list[str]:
            resources = await place.api.list("LLMDeployment")
            return [each["metadata"]["name"] for each in resources if not _is_ready(each)]

        async def all_ready() -> bool:
            return not await unready()

        await until(all_ready, "all are ready", seconds=900, every=1.0)  # a list of them is long
        await until(lambda: place.quiet(proxy), "nothing is written any more", seconds=60)
        objects = await gathered(place.api)
    by_spec = {json.dumps(spec, sort_keys=True): name for name, spec in fresh.items()}
    print(f"{len(specs)} sequences, {len(fresh)} last specs, {len(proxy.writes)} writes")
    wrong = {
        name: found
        for name, spec in specs.items()
        if (found := differences(objects[name], objects[by_spec[json.dumps(spec, sort_keys=True)]]))
    }
    assert wrong == {}, f"SUNDOG_SEED={seed}"


def _is_ready(resource: dict[str, Any]) -> bool:
    status = resource.get("status", {})
    ready = [each["status"] for each in status.get("conditions", []) if each["type"] == "Ready"]
    return status.get("observedGeneration") == resource["metadata"]["generation"] and ready == ["True"]
