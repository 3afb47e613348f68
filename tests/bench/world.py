"""What the bench's own watches see of one namespace, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from sundog_operator.core import names
from sundog_operator.core.view import condition
from sundog_operator.kube.resources import CHILDREN, DEPLOYMENT, LLM_DEPLOYMENT, POD, SCALED_OBJECT, Resource
from tests.bench.api import Api, Manifest
from tests.bench.errors import BenchError

QUIET_SECONDS = 1.0
"""Without any event, until the namespace counts as being at rest."""
_WHOLE = frozenset({LLM_DEPLOYMENT.kind, POD.kind})


class Child(NamedTuple):
    """An object of the operator."""

    kind: str
    name: str


@dataclass(slots=True)
class _Awaited:
    version: int
    seen: asyncio.Future[float]


@dataclass(slots=True)
class Sighting:
    """A child as last seen."""

    created_at: float
    """By the bench's clock."""
    version: int
    """Of a Deployment its generation, else the resource version."""


@dataclass(slots=True)
class World:
    """One namespace; use it inside `async with`."""

    api: Api
    namespace: str
    resources: dict[str, Manifest] = field(default_factory=dict)
    children: dict[Child, Sighting] = field(default_factory=dict)
    workers: dict[str, list[str]] = field(default_factory=dict)
    """Addresses of the worker pods of each revision, by its hash; those of pods that are ending are not among them."""
    seen_at: dict[tuple[str, int], float] = field(default_factory=dict)
    """When an LLMDeployment's generation was first seen, by the bench's clock."""
    last_event: float = 0.0
    _ready: set[str] = field(default_factory=set)
    _awaited: dict[Child, list[_Awaited]] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        kinds = [kind for kind in (LLM_DEPLOYMENT, *CHILDREN, POD) if kind != SCALED_OBJECT]  # there is no KEDA
        self._tasks = [asyncio.create_task(self._follow(kind)) for kind in kinds]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cease to watch."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def next_change(self, kind: str, name: str) -> asyncio.Future[float]:
        """Give the time of the next change of a child, of a Deployment only the next of its spec."""
        child = Child(kind, name)
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        known = self.children.get(child)
        self._awaited.setdefault(child, []).append(_Awaited(known.version if known else -1, seen))
        return seen

    def ready(self) -> int:
        """How many LLMDeployments are as their spec asks, and say so."""
        return len(self._ready)

    async def until(self, what: str, holds: Callable[[], bool], *, seconds: float) -> None:
        """Wait for a condition on what the watches have seen.

        Raises:
            BenchError: it did not come in time, or a watch ended.
        """
        deadline = time.perf_counter() + seconds
        while not holds():
            for task in self._tasks:
                if task.done():
                    raise BenchError(f"a watch of the bench ended: {task.exception()}")
            left = deadline - time.perf_counter()
            if left <= 0:
                raise BenchError(f"not within {seconds:g} s: {what}; {self.story()}")
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    async def until_at_rest(self, count: int, *, seconds: float) -> None:
        """Wait until so many LLMDeployments are Ready and nothing has happened for a moment."""
        await self.until(f"{count} LLMDeployments Ready", lambda: self.ready() >= count, seconds=seconds)
        await self.until_quiet(QUIET_SECONDS, seconds=seconds)
        await self.until(f"{count} LLMDeployments Ready", lambda: self.ready() >= count, seconds=seconds)

    async def until_quiet(self, quiet_seconds: float, *, seconds: float) -> None:
        """Wait until nothing has happened for so long."""
        deadline = time.perf_counter() + seconds
        while (left := self.last_event + quiet_seconds - time.perf_counter()) > 0:
            if time.perf_counter() > deadline:
                raise BenchError(f"not within {seconds:g} s: {quiet_seconds:g} s without an event")
            await asyncio.sleep(left)

    def story(self) -> str:
        """Say how far they are, with the first that is not Ready."""
        unready = [name for name, resource in self.resources.items() if not is_ready(resource)]
        if not unready:
            return f"all {len(self.resources)} are Ready"
        said = condition(self.resources[unready[0]], "Ready")
        return f"{self.ready()} are Ready; {unready[0]} says {said.get('reason')}: {said.get('message')}"

    async def _follow(self, resource: Resource) -> None:
        async for event in self.api.watch(resource, namespace=self.namespace, whole=resource.kind in _WHOLE):
            self.take(resource, event["type"], event["object"], time.perf_counter())

    def take(self, resource: Resource, type_: str, manifest: Manifest, at: float) -> None:
        """Take note of an event that was read at that time."""
        metadata = manifest["metadata"]
        self.last_event = at
        self._news.set()
        if resource == POD:
            self._take_pod(manifest, lives=type_ != "DELETED" and "deletionTimestamp" not in metadata)
        elif resource == LLM_DEPLOYMENT:
            self.resources[metadata["name"]] = manifest
            (self._ready.add if is_ready(manifest) else self._ready.discard)(metadata["name"])
            self.seen_at.setdefault((metadata["name"], metadata["generation"]), at)
        elif (metadata.get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY:
            self._take_child(Child(resource.kind, metadata["name"]), type_, metadata, at)

    def _take_pod(self, pod: Manifest, *, lives: bool) -> None:
        labels, address = pod["metadata"].get("labels") or {}, (pod.get("status") or {}).get("podIP")
        if address and labels.get(names.COMPONENT_LABEL) == names.WORKER:
            addresses = self.workers.setdefault(labels[names.REVISION_LABEL], [])
            if lives and address not in addresses:
                addresses.append(address)
            elif not lives and address in addresses:
                addresses.remove(address)

    def _take_child(self, child: Child, type_: str, metadata: Manifest, at: float) -> None:
        if type_ == "DELETED":
            self.children.pop(child, None)
            return
        # What has a status changes without its spec; annotations change without a new generation.
        version = int(metadata["generation" if child.kind == DEPLOYMENT.kind else "resourceVersion"])
        known = self.children.get(child)
        self.children[child] = Sighting(known.created_at if known else at, version)
        waiting = self._awaited.pop(child, [])
        for awaited in waiting:
            if version > awaited.version:
                awaited.seen.set_result(at)
        if later := [awaited for awaited in waiting if not awaited.seen.done()]:
            self._awaited[child] = later


def is_ready(resource: Manifest) -> bool:
    """Whether an LLMDeployment is as its present spec asks."""
    status = resource.get("status") or {}
    current = status.get("observedGeneration") == resource["metadata"]["generation"]
    return current and condition(resource, "Ready").get("status") == "True"
