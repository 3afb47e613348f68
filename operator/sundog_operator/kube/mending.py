"""Keeps the store right where the watches were not: compares it with lists, now and then and after every gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from sundog_operator.kube.client import Client
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.listing import compare
from sundog_operator.kube.resources import WATCHED, Resource
from sundog_operator.kube.store import ResourceKey, Store

log = structlog.get_logger()

EVERY_SECONDS: Final = 600.0
AGAIN_SECONDS: Final = 30.0
"""After a comparison that failed."""
SETTLE_SECONDS: Final = 2.0
"""All kinds have their gaps together, when the API server was away."""


class Mender:
    """Compares the store with the API server."""

    def __init__(
        self,
        client: Client,
        store: Store,
        *,
        namespaces: Sequence[str],
        on_news: Callable[[ResourceKey], None],
        on_lost: Callable[[int], None],
    ) -> None:
        """Prepare.

        Args:
            client: to read with.
            store: what is mended.
            namespaces: those that are watched; empty: all.
            on_news: is told the LLMDeployments for which something was lost.
            on_lost: is told how many those were.
        """
        self._client = client
        self._store = store
        self._namespaces = namespaces
        self._on_news = on_news
        self._on_lost = on_lost
        self._gaps: set[Resource] = set()
        self._gap = asyncio.Event()

    def gap(self, resource: Resource) -> None:
        """Compare this kind soon: its watch has lost its memory."""
        self._gaps.add(resource)
        self._gap.set()

    async def run(self) -> None:
        """Compare until cancelled."""
        pause = EVERY_SECONDS
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gap.wait(), pause)
            self._gap.clear()
            await asyncio.sleep(SETTLE_SECONDS if self._gaps else 0)
            kinds = self._gaps or set(WATCHED)
            self._gaps = set()
            done = await self._compare(kinds)
            # Replicas of the operator, and operators of many clusters, shall not list together.
            pause = EVERY_SECONDS * random.uniform(0.8, 1.2) if done else AGAIN_SECONDS  # noqa: S311 no secret

    async def _compare(self, kinds: set[Resource]) -> bool:
        for resource in sorted(kinds, key=WATCHED.index):
            if not self._store.reads(resource):
                continue
            try:
                news = await compare(self._client, self._store, resource, namespaces=self._namespaces)
            except KubeError as error:
                log.warning("comparison failed", kind=resource.kind, cause=str(error))
                self._gaps |= kinds
                return False
            if news:
                log.info("watch had lost", kind=resource.kind, resources=len(set(news)))
                self._on_lost(len(set(news)))
            for key in set(news):
                self._on_news(key)
        return True
