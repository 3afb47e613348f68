"""The API server as the commands see it: who asks, in which namespace, and refusals as sentences for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import aiohttp

from sundog_cli.errors import Trouble
from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from sundog_operator.kube.client import Client
from sundog_operator.kube.connection import Connection, connect
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.resources import LLM_DEPLOYMENT, POD, Resource

FIELD_MANAGER: Final = "kubectl-sundog"
_COMMAND_SECONDS: Final = 86_400.0
"""For which a command may write: nobody else does it for the same person, so no Lease is needed."""
_NO_CRD: Final = (
    "The cluster does not know LLMDeployments: install Sundog (helm upgrade --install sundog charts/sundog --namespace "
    "sundog-system --create-namespace), or look at another cluster with --context."
)

EVENT: Final = Resource("v1", "Event", "events")
"""Of the core group: it can be asked for by the object that an event is about."""
SERVICE: Final = Resource("v1", "Service", "services")


@asynccontextmanager
async def cluster(*, context: str | None, namespace: str | None) -> AsyncIterator[Cluster]:
    """Connect as `kubectl` would.

    Args:
        context: of the kubeconfig; None: the current one.
        namespace: None: the context's own.

    Raises:
        Trouble: there are no credentials.
    """
    with told():
        connection = await connect(context=context)
        async with Client(connection, guard=lambda: _COMMAND_SECONDS) as client:
            yield Cluster(connection, client, namespace or connection.namespace or "default")


@contextmanager
def told() -> Iterator[None]:
    """Turn a refusal into a sentence.

    Raises:
        Trouble: the API server refused, or could not be reached.
    """
    try:
        yield
    except KubeError as error:
        raise Trouble(sentence(error)) from error


def sentence(error: KubeError) -> str:
    """Say what a refusal means to the person who asked."""
    words = str(error).rstrip(".")
    if error.status is None:
        return f"{words}. Check the context (kubectl config current-context) and the way to the cluster."
    if error.status == 401:
        return f"The API server does not accept your credentials ({words}): log in again, or choose another --context."
    if error.forbidden:
        return (
            f"You may not do this: {words}. Ask for a role that allows it; the roles view and edit have LLMDeployments."
        )
    return f"{words}."


class Cluster:
    """One API server, one namespace, one person."""

    def __init__(self, connection: Connection, client: Client, namespace: str) -> None:
        """Keep them; `cluster` makes it."""
        self.connection = connection
        self.client = client
        self.namespace = namespace

    async def items(
        self, resource: Resource, *, namespace: str | None, labels: str = "", fields: str = ""
    ) -> list[Manifest]:
        """List objects; without a namespace, those of all.

        Raises:
            KubeError: it was refused, or there was no answer.
        """
        pages = self.client.pages(resource, namespace=namespace, labels=labels, fields=fields)
        # Items of a list carry no kind of their own.
        about = {"apiVersion": resource.api_version, "kind": resource.kind}
        return [{**about, **item} async for page in pages for item in page.items]

    async def llm_deployments(self, *, everywhere: bool) -> list[Manifest]:
        """List LLMDeployments.

        Raises:
            Trouble: the cluster does not know them.
            KubeError: it was refused, or there was no answer.
        """
        try:
            return await self.items(LLM_DEPLOYMENT, namespace=None if everywhere else self.namespace)
        except KubeError as error:
            if error.not_found:
                raise Trouble(_NO_CRD) from error
            raise

    async def llm_deployment(self, name: str) -> Manifest:
        """Read an LLMDeployment.

        Raises:
            Trouble: there is none of this name.
            KubeError: it was refused, or there was no answer.
        """
        if found := await self.client.read(LLM_DEPLOYMENT, namespace=self.namespace, name=name):
            return found
        there = sorted(each["metadata"]["name"] for each in await self.llm_deployments(everywhere=False))
        known = f"there are {', '.join(there)}" if there else "there is none at all; -A looks into all namespaces"
        raise Trouble(f'There is no LLMDeployment "{name}" in namespace "{self.namespace}": {known}.')

    async def pods(self, name: str, component: str) -> list[Manifest]:
        """List the pods of one component of an LLMDeployment.

        Raises:
            KubeError: it was refused, or there was no answer.
        """
        labels = f"{names.NAME_LABEL}={name},{names.COMPONENT_LABEL}={component}"
        return await self.items(POD, namespace=self.namespace, labels=labels)

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """Apply an LLMDeployment in the person's name.

        Raises:
            Trouble: a field belongs to someone else.
            KubeError: it was refused, or there was no answer.
        """
        try:
            return await self.client.apply_as(FIELD_MANAGER, manifest, force=force)
        except KubeError as error:
            if error.not_found:
                await self.llm_deployments(everywhere=False)  # tells it where the cluster does not know the kind
                raise Trouble(f"{error}. Create it first: kubectl create namespace {self.namespace}.") from error
            if error.conflict:
                raise Trouble(
                    f"{error}. Leave those fields to it, or add --force-conflicts to take them over."
                ) from error
            raise

    def service_path(self, service: str, port: int, route: str) -> str:
        """Path under which the API server passes a request on to a Service."""
        return SERVICE.path(namespace=self.namespace, name=f"{service}:{port}", subresource="proxy") + route

    @asynccontextmanager
    async def log(self, pod: str, query: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Read what a container of a pod wrote.

        Raises:
            KubeError: it was refused, or there was no answer.
        """
        path = POD.path(namespace=self.namespace, name=pod, subresource="log")
        async with self.client.through("GET", POD, path, query=query) as response:
            yield response
