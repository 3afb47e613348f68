"""A namespace in which an operator has exactly the rights it needs; what a control plane lacks is played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from sundog_operator.core.names import Manifest
from sundog_operator.custom_metrics.registration import NAME
from tests.apiserver.operator import rights
from tests.apiserver.operator.played import Heads, Kubelet, Loads
from tests.apiserver.operator.process import Operator
from tests.apiserver.operator.proxy import Proxy
from tests.apiserver.operator.world import Api
from tests.cluster import Cluster, use_existing

QUIET_SECONDS = 1.5
READY = ("True", "AllReplicasReady")


@pytest.fixture(scope="session", autouse=True)
def no_scheduler(cluster: Cluster) -> Iterator[None]:
    """Pods run by the word of the played kubelet; a scheduler would say that there is no node."""
    if not use_existing():
        cluster.stop_component("kube-scheduler")
    yield
    if not use_existing():
        cluster.start_component("kube-scheduler")


@dataclass(slots=True)
class Place:
    """A test's namespace, and the operators in it."""

    cluster: Cluster
    namespace: str
    token: str
    api: Api
    kubelet: Kubelet
    heads: Heads
    loads: Loads
    folder: Path
    operators: list[Operator] = field(default_factory=list)

    async def is_ready(self, name: str = "qwen3") -> bool:
        """Whether a resource is ready, as its status says of its newest spec."""
        return await self.api.ready_reason(name) == READY

    def quiet(self, proxy: Proxy) -> bool:
        """Whether nothing has been written for a while."""
        return not proxy.writes or time.monotonic() - proxy.writes[-1].at > QUIET_SECONDS

    def proxy(self) -> Proxy:
        """A proxy with the operator's rights."""
        return Proxy(self.cluster.kubeconfig, token=self.token)

    def operator(self, proxy: Proxy, *, name: str = "operator-0", **settings: str) -> Operator:
        """An operator of this namespace, not started yet."""
        made = Operator(
            kubeconfig=proxy.kubeconfig(self.folder),
            folder=self.folder,
            name=name,
            **{
                "namespace": self.namespace,
                "watch_namespaces": self.namespace,
                "head_url_template": self.heads.template,
                "pod_url_template": self.loads.template,
                **settings,
            },
        )
        self.operators.append(made)
        return made


@asynccontextmanager
async def new_place(cluster: Cluster, namespace: str, folder: Path) -> AsyncIterator[Place]:
    """Furnish a namespace, and end its operators at last."""
    account: Manifest = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "operator", "namespace": namespace},
    }
    manifests = [
        account,
        *rights.role("operator", namespace, rights.rules(rights.WORK | rights.KEDA)),
        *rights.role("operator-own", namespace, rights.OWN),
        *rights.cluster_role(f"operator-{namespace}", namespace),
    ]
    await asyncio.to_thread(cluster.apply, manifests)
    token = await asyncio.to_thread(cluster.kubectl, "create", "token", "operator", "--namespace", namespace)
    async with (
        Api(cluster.kubeconfig, namespace) as api,
        Kubelet(api) as kubelet,
        Heads(kubelet) as heads,
        Loads() as loads,
    ):
        made = Place(cluster, namespace, token.strip(), api, kubelet, heads, loads, folder)
        try:
            yield made
        finally:
            for operator in made.operators:
                await operator.kill()
                # Shown where the test fails.
                print(f"--- {operator.log_file.name}\n{operator.log_file.read_text()}")
    for kinds, where in (("clusterrole,clusterrolebinding", "default"), ("rolebinding", "kube-system")):
        gone = ("delete", kinds, f"operator-{namespace}", f"--namespace={where}", "--ignore-not-found")
        await asyncio.to_thread(cluster.kubectl, *gone)


@pytest.fixture
async def place(cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Place]:
    """A furnished namespace."""
    async with new_place(cluster, namespace, tmp_path) as made:
        yield made


@asynccontextmanager
async def serving_custom_metrics(place: Place, proxy: Proxy, **settings: str) -> AsyncIterator[tuple[Operator, int]]:
    """An operator that serves custom metrics, where the API server finds it: at an ExternalName."""
    port = unused_port()
    operator = place.operator(
        proxy,
        custom_metrics_service="sundog-operator",
        custom_metrics_service_port=str(port),
        custom_metrics_port=str(port),
        custom_metrics_owner=f"operator-{place.namespace}",
        **settings,
    )
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "sundog-operator"},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }
    await place.api.create("Service", service)
    await operator.start()
    try:
        yield operator, port
    finally:
        await asyncio.to_thread(place.cluster.kubectl, "delete", "apiservice", NAME, "--ignore-not-found")


def llm_deployment(name: str = "qwen3", **spec: object) -> Manifest:
    """A small LLMDeployment."""
    return {
        "apiVersion": "sundog.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"uri": "hf://Qwen/Qwen3-0.6B"}, **spec},
    }
