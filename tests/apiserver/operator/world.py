"""Looking at the API server as the test itself, past the operator and its proxies."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp

from sundog_operator.core.names import MANAGED_BY, Manifest
from tests.apiserver.operator.proxy import upstream_of

POLL_SECONDS = 0.05
CONDITION_SECONDS = 60.0
"""Generous: the machine also builds other things."""

KINDS = {
    "LLMDeployment": "/apis/sundog.dev/v1alpha1/namespaces/{namespace}/llmdeployments",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "ControllerRevision": "/apis/apps/v1/namespaces/{namespace}/controllerrevisions",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
    "ScaledObject": "/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Event": "/apis/events.k8s.io/v1/namespaces/{namespace}/events",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "ResourceQuota": "/api/v1/namespaces/{namespace}/resourcequotas",
}
OF_A_RESOURCE = (
    "Deployment",
    "ControllerRevision",
    "Service",
    "ConfigMap",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "Secret",
)


async def until(
    condition: Callable[[], Awaitable[object]] | Callable[[], object],
    what: str | Callable[[], str],
    *,
    seconds: float = CONDITION_SECONDS,
    every: float = POLL_SECONDS,
) -> Any:
    """Ask until the condition holds, and give what it gave; fails with what it last gave when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:g} s: {told} (last: {found!r})")
        await asyncio.sleep(every)


class Api:
    """The API server for the test itself, as administrator, past every proxy."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._server, self._context = upstream_of(kubeconfig)
        self.namespace = namespace
        self.session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(base_url=self._server, connector=aiohttp.TCPConnector(ssl=self._context))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.session
        await self.session.close()

    async def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """Give the answer; None where the object is not there; raises for other refusals."""
        assert self.session
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, path, data=data, headers={"Content-Type": content_type}) as answer:
            found = await answer.json(content_type=None)
            if answer.status == 404 and method in {"GET", "DELETE"}:
                return None
            assert answer.status < 300, f"{method} {path}: {found}"
            return found

    def path(self, kind: str, name: str = "") -> str:
        return KINDS[kind].format(namespace=self.namespace) + (f"/{name}" if name else "")

    async def list(self, kind: str) -> list[Manifest]:
        found: list[Manifest] = (await self.request("GET", self.path(kind)))["items"]
        return found

    async def watch(self, kind: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Tell each object that there is as `ADDED`, then what becomes of it, until the server ends the watch."""
        assert self.session
        found = await self.request("GET", self.path(kind))
        for manifest in found["items"]:
            yield "ADDED", manifest
        since = {"watch": "true", "resourceVersion": found["metadata"]["resourceVersion"]}
        async with self.session.get(self.path(kind), params=since, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            async for line in answer.content:
                told = json.loads(line)
                if told["type"] == "ERROR":
                    return  # too old: it begins anew
                yield told["type"], told["object"]

    async def get(self, kind: str, name: str) -> Manifest | None:
        found: Manifest | None = await self.request("GET", self.path(kind, name))
        return found

    async def create(self, kind: str, manifest: Manifest) -> Manifest:
        found: Manifest = await self.request("POST", self.path(kind), manifest)
        return found

    async def merge(self, kind: str, name: str, patch: Manifest, subresource: str = "") -> Manifest:
        path = self.path(kind, name) + (f"/{subresource}" if subresource else "")
        found: Manifest = await self.request("PATCH", path, patch, "application/merge-patch+json")
        return found

    async def delete(self, kind: str, name: str, **options: Any) -> None:
        await self.request("DELETE", self.path(kind, name), options or None)

    async def ready_reason(self, name: str) -> tuple[str, str] | None:
        """Status and reason of the Ready condition, if the status is about the newest spec."""
        found = await self.get("LLMDeployment", name)
        if not found or found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
            return None
        for condition in found["status"]["conditions"]:
            if condition["type"] == "Ready":
                return condition["status"], condition["reason"]
        return None

    async def versions(self) -> dict[tuple[str, str], str]:
        """The resourceVersion of everything that the operator could write."""
        return {
            (kind, manifest["metadata"]["name"]): manifest["metadata"]["resourceVersion"]
            for kind in ("LLMDeployment", *OF_A_RESOURCE, "Event")
            for manifest in await self.list(kind)
            if kind != "Event" or manifest.get("reportingController") == MANAGED_BY
        }

    async def snapshot(self) -> dict[str, Any]:
        """Give everything that the operator made, without what differs by chance: hashes, times, addresses."""
        objects = {}
        for kind in ("LLMDeployment", *OF_A_RESOURCE):
            for manifest in await self.list(kind):
                if kind != "LLMDeployment":
                    manifest.pop("status", None)  # is told by other controllers
                text = normalised(json.dumps(lasting(manifest), sort_keys=True), self.namespace)
                # Of these there are several, and their names differ by a hash only.
                name = manifest.get("revision", manifest["metadata"]["name"])
                objects[normalised(f"{kind} {name}", self.namespace)] = json.loads(text)
        # What every namespace has of its own.
        for name in (
            "ConfigMap kube-root-ca.crt",
            "ServiceAccount default",
            "ServiceAccount operator",
            "Secret sundog-master-key",
        ):
            objects.pop(name, None)
        return objects


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Tell where two values differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [d for key in keys for d in differences(found.get(key), wanted.get(key), f"{path}/{key}")]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [d for i, pair in enumerate(zip(found, wanted, strict=True)) for d in differences(*pair, f"{path}/{i}")]
    return [] if found == wanted else [f"{path}: {found!r} instead of {wanted!r}"]


_CHANCE = {"volumeName", "resourceVersion", "clusterIP", "clusterIPs", "time", "creationTimestamp", "key"}
_PATTERNS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"[A-Za-z0-9+/]{86}=="), "<token>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    # Kubernetes writes the hash of a pod template, up to ten digits of it, and a pod's five random letters
    # with this alphabet (k8s.io/apimachinery/pkg/util/rand).
    (re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b"), "-<pod>"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "<hash>"),
)


def lasting(value: Any) -> Any:
    """Leave out what differs by chance: addresses, times, and what other controllers wrote."""
    if isinstance(value, dict):
        return {
            key: lasting(entry)
            for key, entry in value.items()
            # What the volume controller does with a claim depends on which volumes are free.
            if key not in _CHANCE and not key.startswith("pv.kubernetes.io/")
        }
    if isinstance(value, list):
        return [lasting(entry) for entry in value if not _is_of_another(entry)]
    return value


def _is_of_another(entry: Any) -> bool:
    """Whether an entry of `managedFields` is of another controller."""
    return isinstance(entry, dict) and "fieldsType" in entry and not str(entry.get("manager")).startswith("sundog")


def normalised(text: str, namespace: str) -> str:
    """Put words in the place of what differs by chance."""
    text = text.replace(namespace, "<namespace>")
    for pattern, name in _PATTERNS:
        text = pattern.sub(name, text)
    return text
