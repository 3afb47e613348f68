"""What a command has read of one LLMDeployment: values only, and how they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from sundog_cli.cluster import EVENT, SERVICE, Cluster
from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.resources import DEPLOYMENT, HPA, POD, Resource


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One LLMDeployment and what belongs to it."""

    resource: Manifest
    pods: tuple[Manifest, ...] = ()
    deployments: tuple[Manifest, ...] = ()
    services: tuple[Manifest, ...] = ()
    autoscalers: tuple[Manifest, ...] = ()
    """HorizontalPodAutoscalers that target it, whoever made them."""
    events: tuple[Manifest, ...] = ()
    """About it or a pod of its, the oldest first."""
    unread: tuple[str, ...] = ()
    """Why a part could not be read: each a sentence."""

    @property
    def name(self) -> str:
        """Of the LLMDeployment."""
        return str(self.resource["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Of the LLMDeployment."""
        return str(self.resource["metadata"].get("namespace", ""))


_PARTS: Final[tuple[Resource, ...]] = (POD, DEPLOYMENT, SERVICE, HPA)


async def read(cluster: Cluster, resources: Iterable[Manifest]) -> list[Snapshot]:
    """Read what belongs to LLMDeployments, one list of a kind for each namespace.

    A kind that may not be read is left out and told: the status of the LLMDeployment says most of it.
    """
    by_namespace: dict[str, list[Manifest]] = {}
    for resource in resources:
        by_namespace.setdefault(resource["metadata"].get("namespace", cluster.namespace), []).append(resource)
    read = await asyncio.gather(*(_read(cluster, namespace, of) for namespace, of in by_namespace.items()))
    return [snapshot for some in read for snapshot in some]


async def _read(cluster: Cluster, namespace: str, resources: list[Manifest]) -> list[Snapshot]:
    labels = names.NAME_LABEL
    if len(resources) == 1:
        labels += f"={resources[0]['metadata']['name']}"
    parts = await asyncio.gather(
        *(_part(cluster, kind, namespace, labels if kind in (POD, DEPLOYMENT, SERVICE) else "") for kind in _PARTS)
    )
    unread = tuple(part for part in parts if isinstance(part, str))
    pods, deployments, services, autoscalers = ([] if isinstance(part, str) else part for part in parts)
    result = []
    for resource in resources:
        name = resource["metadata"]["name"]
        result.append(
            Snapshot(
                resource=resource,
                pods=tuple(_of(name, pods)),
                deployments=tuple(_of(name, deployments)),
                services=tuple(_of(name, services)),
                autoscalers=tuple(each for each in autoscalers if _targets(each, name)),
                unread=unread,
            )
        )
    return result


async def with_events(cluster: Cluster, snapshot: Snapshot) -> Snapshot:
    """Add the events about an LLMDeployment and its pods."""
    found = await _part(cluster, EVENT, snapshot.namespace, "")
    if isinstance(found, str):
        return replace(snapshot, unread=(*snapshot.unread, found))
    about = {(names.KIND, snapshot.name), *(("Pod", pod["metadata"]["name"]) for pod in snapshot.pods)}
    own = sorted((event for event in found if _about(event) in about), key=last_seen)
    return replace(snapshot, events=tuple(own))


async def _part(cluster: Cluster, kind: Resource, namespace: str, labels: str) -> list[Manifest] | str:
    try:
        return await cluster.items(kind, namespace=namespace, labels=labels)
    except KubeError as error:
        if error.forbidden:
            return f"you may not list {kind.full_name} in namespace {namespace}"
        raise


def _of(name: str, objects: Iterable[Manifest]) -> list[Manifest]:
    return [each for each in objects if each["metadata"].get("labels", {}).get(names.NAME_LABEL) == name]


def _targets(autoscaler: Manifest, name: str) -> bool:
    target = autoscaler["spec"].get("scaleTargetRef", {})
    return bool(target.get("kind") == names.KIND and target.get("name") == name)


def _about(event: Manifest) -> tuple[str, str]:
    about = event.get("involvedObject", {})
    return about.get("kind", ""), about.get("name", "")


def last_seen(event: Manifest) -> str:
    """When an event was told last, as the API server writes times."""
    series = event.get("series") or {}
    found = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(found or event["metadata"].get("creationTimestamp", ""))
