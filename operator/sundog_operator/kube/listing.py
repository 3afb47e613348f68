"""Reading whole kinds: once when the operator starts, and at long intervals to find what the watches lost.

A watch that was away for longer than the API server remembers (410 Gone) starts anew and tells what exists, but not
what was deleted meanwhile. So what is kept is compared with a list now and then: metadata only, reads only.
"""

from __future__ import annotations

from collections.abc import Sequence

from sundog_operator.kube.client import Client
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.resources import LLM_DEPLOYMENT, SCALED_OBJECT, STORAGE_CLASS, WATCHED, Resource, selector
from sundog_operator.kube.store import Place, ResourceKey, Store


class CannotStart(Exception):  # noqa: N818 a finding about the cluster
    """The cluster is not as the operator needs it; the message says what to do."""


def scopes(resource: Resource, namespaces: Sequence[str]) -> Sequence[str | None]:
    """Give the namespaces in which a kind is read; None: across all."""
    return list(namespaces) if namespaces and resource.namespaced else [None]


async def prime(client: Client, store: Store, *, namespaces: Sequence[str]) -> dict[str, int]:
    """Fill the store, and learn whether everything may be read.

    Args:
        client: to read with.
        store: to fill.
        namespaces: those to read; empty: all.

    Returns:
        By URL path, the resourceVersion from which a watch goes on where the list ended.

    Raises:
        CannotStart: the CRD or a permission is missing.
        KubeError: the API server could not be reached or had a fault.
    """
    versions: dict[str, int] = {}
    for resource in WATCHED:
        for namespace in scopes(resource, namespaces):
            try:
                async for page in client.pages(resource, namespace=namespace, labels=selector(resource)):
                    for item in page.items:
                        store.put(item)
                    versions[resource.path(namespace=namespace)] = page.version
                await client.try_watch(resource, namespace=namespace, labels=selector(resource))
            except KubeError as error:
                if resource == STORAGE_CLASS and error.forbidden:
                    # Cluster-scoped: an operator of some namespaces only may not have the right to read them.
                    store.leave_out(resource)
                elif resource == SCALED_OBJECT and error.not_found:
                    store.leave_out(resource)  # no KEDA here
                elif resource == LLM_DEPLOYMENT and error.not_found:
                    raise CannotStart(
                        f"The cluster does not know {resource.full_name}: install its CustomResourceDefinition "
                        "(kubectl apply -f crds/), then the operator starts by itself"
                    ) from error
                elif error.forbidden:
                    where = f"in namespace {namespace}" if namespace else "in all namespaces"
                    raise CannotStart(
                        f"The operator may not list and watch {resource.full_name} {where}: {error}. "
                        "Grant it by RBAC; the chart's roles have all that is needed"
                    ) from error
                else:
                    raise
    return versions


async def compare(client: Client, store: Store, resource: Resource, *, namespaces: Sequence[str]) -> list[ResourceKey]:
    """Compare what is kept of a kind with what there is, and mend the store.

    Returns:
        The LLMDeployments for which something was lost.

    Raises:
        KubeError: the API server could not be reached or refused.
    """
    news: list[ResourceKey] = []
    for namespace in scopes(resource, namespaces):
        listed: set[Place] = set()
        unknown: list[Place] = []
        version = 0
        async for page in client.metadata_pages(resource, namespace=namespace, labels=selector(resource)):
            version = page.version
            for item in page.items:
                metadata = item["metadata"]
                place = Place(resource.kind, metadata.get("namespace", ""), metadata["name"])
                listed.add(place)
                known = store.version(place)
                if known is None or known.resource_version < int(metadata["resourceVersion"]):
                    unknown.append(place)
        news += store.keep_only(listed, version=version, of=store.places(resource.kind, namespace=namespace))
        for place in unknown:
            fields = f"metadata.name={place.name}"
            async for page in client.pages(resource, namespace=place.namespace or None, fields=fields):
                news += [owner for item in page.items if (owner := store.put(item))]
    return news


async def read_owned(client: Client, store: Store, resource: Resource, key: ResourceKey, *, labels: str) -> None:
    """Read one kind of what belongs to an LLMDeployment, live, into the store.

    Raises:
        KubeError: the API server could not be reached or refused.
    """
    listed: set[Place] = set()
    version = 0
    async for page in client.pages(resource, namespace=key.namespace, labels=labels):
        version = page.version
        for item in page.items:
            store.put(item)
            listed.add(Place(resource.kind, key.namespace, item["metadata"]["name"]))
    store.keep_only(listed, version=version, of=store.places(resource.kind, owner=key))
