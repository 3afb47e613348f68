"""LLMDeployments in every state that the page tells apart, made by the real plan and status."""

from __future__ import annotations

import copy
import functools

from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from tests.unit.core.world import World, resource

HOSTILE = """</p></style><script>document.title="broken"</script><img src=x onerror='alert(1)'>"""
SECRET = "hf_a_secret_that_stands_in_the_spec"


def fleet() -> list[World]:
    """One that is ready, one that changes, one without a GPU, one at zero, one stalled, one new, one hostile."""
    return copy.deepcopy(_fleet())


@functools.cache
def _fleet() -> list[World]:
    ready = _world("qwen3", "chat", replicas=3)
    ready.converge()
    for number, pod in enumerate(ready.pods.values()):
        pod["spec"] = {"nodeName": f"gpu-{number}.eu-central-1.compute.internal"}
    ready.edit(replicas=2)
    ready.converge()

    changing = _world("llama-3-1-8b", "chat", replicas=2)
    changing.converge()
    changing.edit(model={"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"})
    changing.step()
    changing.settle(ready=False)
    changing.step()

    poor = _world("mistral-small", "search", replicas=4)
    poor.step()
    poor.settle(ready=False)
    for pod in poor.pods.values():
        words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available"
        no_node = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        pod["status"] = {"phase": "Pending", "conditions": [no_node]}
    poor.step()

    zero = _world("embeddings", "search", replicas=0)
    zero.converge()

    stalled = _world("broken", "research", engine={"args": {"no-such-argument": True}})
    stalled.step()
    stalled.settle(ready=False)
    stalled.step()
    message = "EngineStartError: EngineArgumentInvalid: vLLM 0.32 has no argument no-such-argument; remove it"
    for serve in stalled.serves.values():
        serve.message = message
    stalled.step()

    new = _world("just-created", "research")
    hostile = _world("a" * names.MAX_NAME_LENGTH, "n" * 63, engine={"env": [{"name": "KEY", "value": SECRET}]})
    hostile.step()
    for condition in hostile.resource["status"]["conditions"]:
        condition["message"] = HOSTILE + "x" * 900
    return [ready, changing, poor, zero, stalled, new, hostile]


def stored(worlds: list[World]) -> list[Manifest]:
    """Their resources and pods, as the API server would give them."""
    found = []
    for world in worlds:
        namespace = world.resource["metadata"]["namespace"]
        for manifest in (world.resource, *world.pods.values()):
            metadata = {
                **manifest["metadata"],
                "namespace": namespace,
                "uid": f"{namespace}-{manifest['metadata']['uid']}",
                "resourceVersion": str(len(found) + 1),
            }
            found.append({"apiVersion": "v1", **manifest, "metadata": metadata})
    return found


def _world(name: str, namespace: str, **spec: object) -> World:
    made = resource(name, **spec)
    made["metadata"] |= {"namespace": namespace, "uid": name}
    return World(made)
