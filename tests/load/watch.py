"""Watching a cluster under load: one sample a second, through the API server, so that it works from anywhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from sundog_operator.kube.connection import Connection
from tests.load.samples import Sample, sample

PERIOD_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 10.0
# The operator's Service, as the chart makes it.
OPERATOR: Final = "namespaces/sundog-system/services/sundog-operator-metrics:8080"


@dataclass(frozen=True, slots=True)
class Subject:
    """The LLMDeployment that is watched."""

    kubeconfig: Path
    namespace: str
    name: str


@contextlib.asynccontextmanager
async def watching(subject: Subject, *, seconds: Callable[[], float]) -> AsyncIterator[list[Sample]]:
    """Take samples for as long as the block runs.

    Args:
        subject: whom to watch.
        seconds: the clock of the load.
    """
    samples: list[Sample] = []
    async with _session(subject.kubeconfig) as (session, server):

        async def take() -> None:
            while True:
                # Timed from before it is asked: a slow answer must not spread the samples.
                due = asyncio.create_task(asyncio.sleep(PERIOD_SECONDS))
                samples.append(await look(session, server, subject, seconds=seconds))
                await due

        task = asyncio.create_task(take())
        try:
            yield samples
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def look(
    session: aiohttp.ClientSession, server: str, subject: Subject, *, seconds: Callable[[], float]
) -> Sample:
    """Take one sample; what cannot be had is said in it."""
    where = f"{subject.namespace}/llmdeployments/{subject.name}"
    (resource, trouble), (load, doubt) = await asyncio.gather(
        _get(session, f"{server}/apis/sundog.dev/v1alpha1/namespaces/{where}"),
        _get(session, f"{server}/api/v1/{OPERATOR}/proxy/loads/{subject.namespace}/{subject.name}"),
    )
    return sample(seconds(), resource, load, problem=trouble or doubt)


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[Mapping[str, Any], str]:
    """GET a document: it, or nothing and why."""
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS)) as response:
            if response.status == 200:
                return await response.json(), ""
            return {}, f"HTTP {response.status} {(await response.text())[:200]}"
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return {}, f"{type(error).__name__} {error}"


@contextlib.asynccontextmanager
async def _session(kubeconfig: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    configuration = Configuration()
    await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig), client_configuration=configuration
    )
    context = RESTClientObject(configuration).ssl_context if configuration.host.startswith("https:") else None
    found = Connection(configuration, context)
    async with found.session(connections=4) as session:
        yield session, found.server
