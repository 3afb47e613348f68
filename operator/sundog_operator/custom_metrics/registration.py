"""The APIService that makes the API server pass `custom.metrics.k8s.io` on to the operator."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from sundog_operator.config import Config
from sundog_operator.core.comparison import is_applied, with_applied_hash
from sundog_operator.core.names import MANAGED_BY, MANAGED_BY_LABEL, Manifest
from sundog_operator.custom_metrics.answers import GROUP, VERSION
from sundog_operator.custom_metrics.certificates import bundle
from sundog_operator.kube.client import Client
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.resources import CLUSTER_ROLE

log = structlog.get_logger()
LOOK_SECONDS: Final = 60.0

KIND: Final = "APIService"
NAME: Final = f"{VERSION}.{GROUP}"
OTHERS: Final = (f"v1beta1.{GROUP}",)
"""A HorizontalPodAutoscaler asks one version for all metrics, so an adapter that has another one is in the way."""


def api_service(*, bundle: bytes, namespace: str, service: str, port: int, owner: Manifest | None) -> Manifest:
    """Build it.

    Args:
        bundle: authorities that are to be trusted, as PEM.
        namespace: of the operator.
        service: name of the Service in front of the operator.
        port: of that Service.
        owner: an object of the cluster that is deleted when Sundog is uninstalled, so that this goes with it.
    """
    metadata: dict[str, Any] = {"name": NAME, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}
    if owner:
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": KIND,
        "metadata": metadata,
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 200,
            "service": {"namespace": namespace, "name": service, "port": port},
            "caBundle": base64.b64encode(bundle).decode(),
        },
    }


def in_the_way(found: Mapping[str, Manifest | None]) -> str | None:
    """Say which of the APIServices found, by name, belongs to someone else; None: none does."""
    for name, manifest in sorted(found.items()):
        if manifest is None:
            continue
        labels = manifest["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) == MANAGED_BY:
            continue
        service = manifest.get("spec", {}).get("service") or {}
        where = f"Service {service.get('namespace')}/{service.get('name')}" if service else "the API server itself"
        return (
            f"APIService {name} belongs to another metrics adapter ({where}), and a cluster can have one: set "
            "spec.autoscaling.class to KEDA, uninstall that adapter, or let Sundog take its place "
            "(customMetrics.takeOver in the chart's values)"
        )
    return None


class Registration:
    """Keeps the APIService as it is to be, for as long as this process leads. Another's is left alone, and told."""

    def __init__(
        self,
        client: Client,
        config: Config,
        *,
        master_key: bytes,
        on_change: Callable[[], None],
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; `on_change` is called when `trouble` has changed."""
        self._client = client
        self._config = config
        self._master_key = master_key
        self._on_change = on_change
        self._unix_time = unix_time
        self.trouble: str | None = None
        """Why no HorizontalPodAutoscaler can ask, for people; None: nothing is known to be wrong."""

    async def keep(self) -> None:
        """Look again every minute, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            before = self.trouble
            await self.look()
            if self.trouble != before:
                self._on_change()

    async def look(self) -> None:
        """Register it, or learn why that cannot be. Before the first pass, so that no status changes twice."""
        before = self.trouble
        try:
            self.trouble = await self._register()
        except KubeError as error:
            self.trouble = f"APIService {NAME} could not be looked after: {error}"
        if self.trouble and self.trouble != before and self._config.custom_metrics_service:
            log.warning("custom metrics not registered", cause=self.trouble)
        elif before and not self.trouble:
            log.info("custom metrics registered")

    async def _register(self) -> str | None:
        client, config = self._client, self._config
        if not config.custom_metrics_service:
            return (
                "the operator does not serve the custom metrics API: set customMetrics.enabled in the chart's values, "
                "or spec.autoscaling.class to KEDA"
            )
        found = {name: await client.get(KIND, namespace="", name=name) for name in (NAME, *OTHERS)}
        if not config.custom_metrics_take_over and (trouble := in_the_way(found)):
            return trouble
        owner = None
        if config.custom_metrics_owner:
            owner = await client.get(CLUSTER_ROLE.kind, namespace="", name=config.custom_metrics_owner)
        wanted = with_applied_hash(
            api_service(
                bundle=bundle(self._master_key, unix_seconds=self._unix_time()),
                namespace=config.namespace,
                service=config.custom_metrics_service,
                port=config.custom_metrics_service_port,
                owner=owner,
            )
        )
        present = found[NAME]
        if present is None or not is_applied(wanted, present):
            await client.apply(_over(present, wanted))
        return None


def _over(present: Manifest | None, wanted: Manifest) -> Manifest:
    """Give what makes the APIService that is there the wanted one.

    prometheus-adapter's trusts anyone (`insecureSkipTLSVerify`), and the API server refuses that beside a CA bundle.
    It is said only where it is so: the API server never shows a false one, and each look would write it anew.
    """
    if not present or not present.get("spec", {}).get("insecureSkipTLSVerify"):
        return wanted
    return {**wanted, "spec": {**wanted["spec"], "insecureSkipTLSVerify": False}}
