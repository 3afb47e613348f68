"""Asks routers and replicas how busy they are, on demand, for whoever scales; and replicas for their adapters.

An answer is kept for a second, in which all who ask for the same LLMDeployment share it. Only those are asked who
measure what is wanted. Who asks decides nothing: what cannot be had fresh is said to be unmeasured, never guessed.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

import aiohttp

from sundog_operator.core import names, tokens
from sundog_operator.core.load import Load, Metric, ReplicaLoad, replicas_to_ask, routers_to_ask
from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import AdapterState, RouterLoad
from sundog_operator.core.zero import seconds_between_questions
from sundog_operator.kube.store import ResourceKey, Store

FRESH_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0
"""Both answer from memory, in milliseconds."""
AT_ONCE: Final = 64
"""Requests under way, whatever is asked for: 200 LLMDeployments with 800 pods must not open 800 connections."""
_MESSAGE_CHARACTERS: Final = 500
_ASKED: Final = {names.LOAD_ROUTE: ("load", 16_384), names.ADAPTERS_ROUTE: ("adapters", 131_072)}
"""What is asked for by a route, and the most bytes that may answer: 64 adapters that failed have much to say."""

Observer = Callable[[str, str], None]
"""Is told who was asked (`router`, `replica`) and the HTTP status (or `error`)."""


T = TypeVar("T")
_Said = dict[str, T | str]
"""By pod; a string says why one said nothing."""


@dataclass(slots=True)
class _Asked(Generic[T]):
    at: float
    answer: asyncio.Task[_Said[T]]


class Meter:
    """Measures the load of every LLMDeployment that the store knows."""

    def __init__(
        self,
        store: Store,
        *,
        master_key: Callable[[], bytes],
        url_template: str,
        observer: Observer = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `async with` opens the session.

        Args:
            store: knows the pods.
            master_key: gives what the replicas' tokens are derived from.
            url_template: base URL of a pod, with `{address}` and `{port}`.
            observer: is told of each request.
            clock: seconds that grow.
        """
        self._store = store
        self._master_key = master_key
        self._url_template = url_template
        self._observer = observer
        self._clock = clock
        self.asleep: set[ResourceKey] = set()
        """What is at zero and comes back with a request, as the last pass over each found it."""
        self._asked_routers: dict[ResourceKey, _Asked[RouterLoad]] = {}
        self._asked_replicas: dict[ResourceKey, _Asked[ReplicaLoad]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        # Routers and replicas close after each answer or soon: a kept connection would fail every other time.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give up what is being asked, and close the session."""
        asking: list[asyncio.Task[Any]] = [asked.answer for asked in self._asked_routers.values()]
        asking += [asked.answer for asked in self._asked_replicas.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if self._session:
            await self._session.close()

    async def load(self, key: ResourceKey) -> Load | None:
        """Measure an LLMDeployment by all its pods; None: there is none."""
        resource = self._resource(key)
        if resource is None:
            return None
        routers, replicas = await asyncio.gather(self._routers_of(key), self._replicas_of(key, resource))
        return Load(routers, replicas)

    async def value(self, key: ResourceKey, metric: Metric) -> float | None:
        """Measure one metric of an LLMDeployment, by those pods alone that have a part of it; None: there is none.

        Raises:
            Unmeasured: not all of them have told theirs.
        """
        resource = self._resource(key)
        if resource is None:
            return None
        if metric.is_of_routers:
            return Load(routers=await self._routers_of(key)).value(metric)
        return Load(replicas=await self._replicas_of(key, resource)).value(metric)

    async def routers(self, pods: Iterable[Manifest]) -> _Said[RouterLoad]:
        """Ask the routers among these pods, now; a string says why one said nothing."""
        asked = routers_to_ask(pods)
        said = await asyncio.gather(*(self._get("router", pod, names.ROUTER_METRICS_PORT, {}) for pod in asked))
        return {_name(pod): _read(_router, pod, each) for pod, each in zip(asked, said, strict=True)}

    async def adapters(self, pods: Iterable[Manifest], uid: str) -> _Said[tuple[AdapterState, ...]]:
        """Ask these replicas of an LLMDeployment which adapters they have, now."""
        asked = list(pods)
        said = await self._get_all(asked, uid, names.ADAPTERS_ROUTE)
        return {_name(pod): _read(_adapters, pod, each) for pod, each in zip(asked, said, strict=True)}

    async def watch_for_demand(self, on_news: Callable[[ResourceKey], None]) -> None:
        """Ask the routers of what is asleep again and again, and tell who has a request: no watch tells it.

        Never ends by itself. A router that does not answer keeps no other LLMDeployment waiting.
        """
        asking: set[ResourceKey] = set()

        async def ask(key: ResourceKey) -> None:
            try:
                said = await self.routers(self._store.pods(key))
            finally:
                asking.discard(key)
            if any(isinstance(each, RouterLoad) and each.ongoing for each in said.values()):
                on_news(key)

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for key in self.asleep - asking:
                        asking.add(key)
                        group.create_task(ask(key))
                    await asyncio.sleep(seconds_between_questions(len(self.asleep)))
        finally:
            self.asleep.clear()  # while another process leads, no pass here tells what is deleted

    def _resource(self, key: ResourceKey) -> Manifest | None:
        resource = self._store.resource(key)
        if resource is None:
            self._asked_routers.pop(key, None)
            self._asked_replicas.pop(key, None)
        return resource

    async def _routers_of(self, key: ResourceKey) -> _Said[RouterLoad]:
        return await self._shared(self._asked_routers, key, lambda: self.routers(self._store.pods(key)))

    async def _replicas_of(self, key: ResourceKey, resource: Manifest) -> _Said[ReplicaLoad]:
        uid = resource["metadata"]["uid"]
        return await self._shared(self._asked_replicas, key, lambda: self._replicas(self._store.pods(key), uid))

    async def _shared(
        self,
        asked: dict[ResourceKey, _Asked[T]],
        key: ResourceKey,
        ask: Callable[[], Coroutine[Any, Any, _Said[T]]],
    ) -> _Said[T]:
        last = asked.get(key)
        if last is None or (last.answer.done() and self._clock() - last.at > FRESH_SECONDS):
            last = asked[key] = _Asked(self._clock(), asyncio.create_task(ask()))
        return await asyncio.shield(last.answer)  # one who gives up must not take the others' answer along

    async def _replicas(self, pods: Iterable[Manifest], uid: str) -> _Said[ReplicaLoad]:
        asked = replicas_to_ask(pods)
        said = await self._get_all(asked, uid, names.LOAD_ROUTE)
        return {_name(pod): _read(_replica, pod, each) for pod, each in zip(asked, said, strict=True)}

    async def _get_all(self, pods: Sequence[Manifest], uid: str, route: str) -> list[Any]:
        """Ask replicas, which demand the token of their LLMDeployment."""
        header = {names.REPLICA_TOKEN_HEADER: tokens.replica_token(self._master_key(), uid)}
        return await asyncio.gather(*(self._get("replica", pod, names.REPLICA_PORT, header, route) for pod in pods))

    async def _get(
        self, who: str, pod: Manifest, port: int, headers: Mapping[str, str], route: str = names.LOAD_ROUTE
    ) -> Any:
        """Give the JSON that a pod answers, or a sentence that says why there is none."""
        assert self._session is not None, "the meter is used inside `async with`"
        address = pod["status"]["podIP"]
        host = f"[{address}]" if ":" in address else address
        url = self._url_template.format(address=host, port=port) + route
        what, most = _ASKED[route]
        status = "error"
        try:
            async with (
                self._places,
                self._session.get(
                    url,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
                    allow_redirects=False,
                ) as response,
            ):
                status = str(response.status)
                if response.status != 200:
                    return f"{who} {_name(pod)} answered HTTP {response.status} when asked for its {what}"
                if not 0 < (response.content_length or 0) <= most:
                    return f"{who} {_name(pod)} answered something else than its {what}"
                return json.loads(await response.read())
        except TimeoutError:
            return f"{who} {_name(pod)} did not say its {what} within {ANSWER_SECONDS:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return f"{who} {_name(pod)} could not be asked for its {what}: {error}"
        except ValueError:
            return f"{who} {_name(pod)} answered something else than JSON when asked for its {what}"
        finally:
            self._observer(who, status)


def _name(pod: Manifest) -> str:
    return str(pod["metadata"]["name"])


def _read(read: Callable[[Any], Any], pod: Manifest, said: Any) -> Any:
    if isinstance(said, str):
        return said
    try:
        return read(said)
    except (KeyError, TypeError, ValueError):
        return f"pod {_name(pod)} answered something else than it was asked for: its image may be of another release"


def _router(said: Any) -> RouterLoad:
    return RouterLoad(
        ongoing=int(_amount(said["ongoing"])),
        waiting=int(_amount(said["queued"]) + _amount(said["held"])),
        idle_seconds=max(float(said["idle_seconds"]), 0.0),  # a clock may be set back
        servers=int(_amount(said["servers"])),
    )


def _replica(said: Any) -> ReplicaLoad:
    return ReplicaLoad(_amount(said["kv_cache_utilization"]), _amount(said["generation_tokens_per_second"]))


def _adapters(said: Any) -> tuple[AdapterState, ...]:
    return tuple(
        AdapterState(
            name=each["name"],
            uri=each["uri"],
            revision=each["revision"],
            state=each["state"],
            message=str(each["message"])[:_MESSAGE_CHARACTERS],
        )
        for each in said["adapters"]
    )


def _amount(value: Any) -> float:
    amount = float(value)
    if not 0 <= amount < math.inf:  # JSON as Python reads it has NaN and Infinity
        raise ValueError(value)
    return amount
