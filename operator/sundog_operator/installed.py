"""`helm test`: does the operator live, and do its account and the CRD let it work? It only reads.

    python -m sundog_operator.installed [URL of the operator]

It runs in the operator's image with the operator's account and settings, so it finds what the operator would find.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final

import aiohttp

from sundog_operator.config import ConfigError, from_environment
from sundog_operator.kube.client import Client
from sundog_operator.kube.connection import connect
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.listing import scopes
from sundog_operator.kube.resources import LLM_DEPLOYMENT

ANSWER_SECONDS: Final = 5.0
ROUTES: Final = ("/healthz", "/readyz")


def main(arguments: Sequence[str]) -> int:
    """Look, and tell each finding in a line.

    Args:
        arguments: the base URL of the operator; none: it has no Service, and is not asked.

    Returns:
        0 when all is well, 1 when not, 2 when the settings are wrong.
    """
    try:
        namespaces = from_environment(os.environ).watch_namespaces
    except ConfigError as error:
        print(f"Wrong configuration: {error}", file=sys.stderr)  # noqa: T201 a command's answer
        return 2
    wrong = asyncio.run(_wrong(namespaces, arguments[0] if arguments else ""))
    for finding in wrong or ["Sundog works: kubectl apply -f an LLMDeployment."]:
        print(finding)  # noqa: T201 a command's answer
    return 1 if wrong else 0


async def _wrong(namespaces: Sequence[str], url: str) -> list[str]:
    return [*(await of_operator(url) if url else ()), *await _of_cluster(namespaces)]


async def of_operator(url: str) -> list[str]:
    """Ask the operator, and give what is wrong; nothing: it is well."""
    found = []
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    # The operator is next door: a proxy of the environment is for the world outside.
    async with aiohttp.ClientSession(url, timeout=timeout, trust_env=False) as session:
        for route in ROUTES:
            try:
                async with session.get(route) as answer:
                    if answer.status != 200:
                        found.append(f"The operator says at {route}: {(await answer.text()).strip()}")
            except (aiohttp.ClientError, TimeoutError) as error:
                told = str(error) or f"no answer in {ANSWER_SECONDS:g} s"
                found.append(
                    f"The operator does not answer at {url}{route}: {told}. See its log, and whether a NetworkPolicy "
                    "keeps pods of its own namespace away"
                )
    return found


async def _of_cluster(namespaces: Sequence[str]) -> list[str]:
    found = []
    try:
        async with Client(await connect(), guard=lambda: 0.0) as client:
            for namespace in scopes(LLM_DEPLOYMENT, namespaces):
                try:
                    async for _ in client.pages(LLM_DEPLOYMENT, namespace=namespace):
                        break
                except KubeError as error:
                    found.append(_told(error, namespace))
    except KubeError as error:
        found.append(str(error))
    return found


def _told(error: KubeError, namespace: str | None) -> str:
    if error.not_found:
        return (
            f"The cluster does not know {LLM_DEPLOYMENT.full_name}: set crds.enabled, or kubectl apply the chart's "
            "files/llmdeployments.yaml"
        )
    if error.forbidden:
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        return f"The operator may not list {LLM_DEPLOYMENT.full_name} {where}: {error}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
