"""The operator's Lease, as `leader` wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sundog_operator.core.names import MANAGED_BY, MANAGED_BY_LABEL, Manifest
from sundog_operator.kube.client import Client
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.resources import LEASE

NAME: Final = "sundog-operator"


@dataclass(frozen=True, slots=True)
class KubeLease:
    """The Lease `sundog-operator` of a namespace."""

    client: Client
    namespace: str

    @property
    def error(self) -> type[Exception]:
        """What the methods raise."""
        return KubeError

    def empty(self) -> Manifest:
        """Give a manifest without a holder."""
        metadata = {"name": NAME, "namespace": self.namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": {}}

    async def read(self) -> Manifest | None:
        """Read it live."""
        return await self.client.get(LEASE.kind, namespace=self.namespace, name=NAME)

    async def create(self, manifest: Manifest) -> Manifest:
        """Create it."""
        return await self.client.create_lease(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace the one that was read."""
        return await self.client.replace_lease(manifest)
