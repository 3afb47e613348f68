"""From a changed spec to the child's write: the bench's own clock, from before its patch is sent until its watch tells.

So each figure holds two requests to the API server and two events of it as well; what the patch alone takes until the
bench sees its event is measured beside it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from sundog_operator.core import names
from sundog_operator.kube.resources import LLM_DEPLOYMENT
from tests.bench.api import Api, Manifest
from tests.bench.figures import Distribution, distribution
from tests.bench.resources import REPLICAS
from tests.bench.world import World, is_ready

SECONDS = 60.0
QUIET_SECONDS = 0.05
"""Between a sample and what the one before it set off: at least so long, at most twice."""
MOST_REPLICAS = 12
"""Then a resource is brought down again, untimed: a hundred samples shall not make hundreds of pods of one."""
CROWD = 256
"""Replicas of one LLMDeployment whose pods are made while the others are changed: the most that there may be."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How long changes of a spec took, in seconds."""

    service: Distribution
    """`service.annotations` → the Service."""
    worker: Distribution
    """`replicas` raised → the worker Deployment."""
    echo: Distribution
    """The same patch → its own event: the API server's and the bench's part."""


@dataclass(frozen=True, slots=True)
class Crowded:
    """How long changes took while one resource made hundreds of pods."""

    service: Distribution
    quiet: Distribution
    """The same just before."""


class Changer:
    """Changes random resources, one at a time."""

    def __init__(self, api: Api, world: World, *, seed: int = 0) -> None:
        """Prepare; the same seed chooses the same resources."""
        self._api = api
        self._world = world
        self._random = random.Random(seed)
        self._number = 0
        self._echoes: list[float] = []
        self._wanted: dict[str, int] = {}
        """The generation of each resource that was changed, as its patch was answered."""

    async def measure(self, samples: int, *, told: Callable[[int], None]) -> Changes:
        """Take so many samples of each."""
        service, worker = [], []
        for _ in range(samples):
            await self._pause()
            service.append(await self._service(self._choose(), told=told))
        for _ in range(samples):
            await self._pause()
            worker.append(await self._worker(self._choose(), told=told))
        return Changes(distribution(service), distribution(worker), distribution(self._echoes))

    async def measure_crowded(self, samples: int, *, told: Callable[[int], None]) -> Crowded | None:
        """Change others while one makes its crowd of pods; None: the crowd was there before the first had changed.

        Args:
            samples: to take before; beside the crowd it is as many as it leaves time for.
            told: is told how many changes were made.
        """
        crowd = self._choose()
        quiet, crowded = [], []
        for _ in range(samples):
            await self._pause()
            quiet.append(await self._service(self._choose(but=crowd), told=told))
        await self._patch(crowd, {"replicas": CROWD})
        while not self._settled(crowd):
            await asyncio.sleep(self._random.uniform(0, QUIET_SECONDS))
            crowded.append(await self._service(self._choose(but=crowd), told=told))
        return Crowded(distribution(crowded), distribution(quiet)) if crowded else None

    async def _pause(self) -> None:
        """Let what the sample before set off end, and meet the operator's own rhythm at a random point of it."""
        await self._world.until_quiet(QUIET_SECONDS * self._random.uniform(1, 2), seconds=SECONDS)

    def _choose(self, *, but: str = "") -> str:
        return self._random.choice(sorted(self._world.resources.keys() - {but}))

    async def _service(self, name: str, *, told: Callable[[int], None]) -> float:
        annotations = {"bench.sundog.dev/sample": str(self._number)}
        return await self._change(name, "Service", name, {"service": {"annotations": annotations}}, told=told)

    async def _worker(self, name: str, *, told: Callable[[int], None]) -> float:
        replicas = int(self._world.resources[name]["spec"]["replicas"])
        if replicas >= MOST_REPLICAS:
            replicas = REPLICAS
            await self._patch(name, {"replicas": replicas})
            await self._until_settled(name)
            await self._pause()
        worker = next(
            child.name
            for child in self._world.children
            if child.kind == "Deployment"
            and child.name.startswith(f"{name}-")
            and child.name.endswith(f"-{names.WORKER}")
        )
        return await self._change(name, "Deployment", worker, {"replicas": replicas + 1}, told=told)

    async def _change(
        self, resource: str, kind: str, name: str, spec: Manifest, *, told: Callable[[int], None]
    ) -> float:
        seen = self._world.next_change(kind, name)
        started = time.perf_counter()
        generation = await self._patch(resource, spec)
        await self._world.until(f"a write of {kind} {name}", seen.done, seconds=SECONDS)
        await self._until_settled(resource)
        self._echoes.append(self._world.seen_at[resource, generation] - started)
        self._number += 1
        told(self._number)
        return seen.result() - started

    async def _patch(self, name: str, spec: Manifest) -> int:
        """Change a spec; gives the generation that it has then."""
        patch = {"spec": spec}
        answer = await self._api.merge(LLM_DEPLOYMENT, namespace=self._world.namespace, name=name, patch=patch)
        generation = int(answer["metadata"]["generation"])
        self._wanted[name] = generation
        return generation

    def _settled(self, name: str) -> bool:
        # What the watch has seen may be older than the patch's answer.
        resource = self._world.resources[name]
        return int(resource["metadata"]["generation"]) >= self._wanted.get(name, 0) and is_ready(resource)

    async def _until_settled(self, name: str) -> None:
        await self._world.until(f"{name} Ready again", lambda: self._settled(name), seconds=SECONDS)
