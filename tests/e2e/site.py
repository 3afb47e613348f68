"""What a person would do with kubectl in one namespace, and how to wait for what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient, Configuration
from kubernetes.config import load_kube_config
from urllib3.exceptions import HTTPError

from tests.cluster import Cluster, ClusterError, builds

Manifest = dict[str, Any]
Manifests = list[Manifest]  # within the class below `list` is its own

WAIT_SECONDS = 420.0
POLL_SECONDS = 0.5
TOKENS_PER_SECOND = 20
# What is asked for again and again is read here: each kubectl takes a quarter of a second of a processor.
_PATHS = {
    "llmdeployments": "/apis/sundog.dev/v1alpha1/namespaces/{namespace}/llmdeployments",
    "pods": "/api/v1/namespaces/{namespace}/pods",
}
# A node of two cores runs several Ray clusters at once: requests small, so that the scheduler lets them.
SMALL_HEAD = {"head": {"resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}}}


@dataclass(frozen=True)
class Site:
    """A namespace."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments)

    def apply(self, name: str, **spec: Any) -> None:
        """Apply an LLMDeployment; without an engine in the spec it has the fake one."""
        engine = {"name": "fake", "args": {"tokens-per-second": TOKENS_PER_SECOND}}
        whole = {
            "model": {"uri": "hf://acme/fake"},
            "engine": engine,
            "requestTimeoutSeconds": 120,
            "ray": SMALL_HEAD,
            **spec,
        }
        metadata = {"name": name, "namespace": self.namespace}
        self.cluster.apply(
            [{"apiVersion": "sundog.dev/v1alpha1", "kind": "LLMDeployment", "metadata": metadata, "spec": whole}]
        )

    def get(self, kind: str, name: str) -> Manifest:
        """Read one object."""
        if path := _PATHS.get(f"{kind}s"):
            return self._read(f"{path}/{name}")
        return dict(json.loads(self.kubectl("get", kind, name, "--output=json")))

    def list(self, kind: str, selector: str = "") -> Manifests:
        """Read objects of one kind, or of several with commas between."""
        if path := _PATHS.get(kind):
            return list(self._read(path, labelSelector=selector)["items"])
        found = self.kubectl("get", kind, f"--selector={selector}", "--output=json")
        return list(json.loads(found)["items"])

    def _read(self, path: str, **query: str) -> Manifest:
        whole = path.format(namespace=self.namespace)
        try:
            api = _api(self.cluster.kubeconfig)
            request = api.param_serialize("GET", whole, query_params=query, auth_settings=["BearerToken"])
            answer = api.call_api(*request)
            found = dict(json.loads(answer.read()))  # type: ignore[no-untyped-call]
        except HTTPError as error:
            raise ClusterError(f"GET {whole} failed: {error}") from error
        if answer.status != HTTPStatus.OK:
            raise ClusterError(f"GET {whole} failed: {found.get('message')}")
        return found

    def condition(self, name: str, kind: str = "Ready") -> Manifest:
        """One condition of an LLMDeployment; empty before it has it."""
        conditions = self.get("llmdeployment", name).get("status", {}).get("conditions", [])
        return next((dict(c) for c in conditions if c["type"] == kind), {})

    def url(self, name: str) -> str:
        """Base URL of the API by the Service's cluster address, which the host reaches."""
        service = self.get("service", name)
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/v1"

    def load(self, name: str) -> dict[str, float]:
        """What the operator says of the load of an LLMDeployment."""
        operator = "/api/v1/namespaces/sundog-system/pods"
        (pod, *_) = self._read(operator, labelSelector="app.kubernetes.io/name=sundog-operator")["items"]
        address = pod["status"]["podIP"]
        with urllib.request.urlopen(f"http://{address}:8080/loads/{self.namespace}/{name}", timeout=30) as answer:
            return dict(json.load(answer))

    def servers(self, name: str) -> int | None:
        """To how many replicas the routers send requests, of the router that sees most; None: none of them says so."""
        found = []
        for pod in self.pods(name, "router"):
            address = pod["status"].get("podIP")
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{address}:8404/sundog/load", timeout=5) as answer,
            ):
                found.append(int(json.load(answer)["servers"]))
        return max(found, default=None)

    def pods(self, name: str, component: str) -> Manifests:
        """Pods of one component that were not told to end."""
        selector = f"sundog.dev/llmdeployment={name},sundog.dev/component={component}"
        return [pod for pod in self.list("pods", selector) if "deletionTimestamp" not in pod["metadata"]]

    def uids(self, name: str, component: str = "worker") -> set[str]:
        """Tell the pods of one component apart from those that come in their place."""
        return {pod["metadata"]["uid"] for pod in self.pods(name, component)}

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncIterator[Manifests]:
        """Record what `kubectl get llmdeployment --watch` tells while the block runs."""
        command = ("get", "llmdeployment", name, f"--namespace={self.namespace}", "--watch", "--output=json")
        without_proxy = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        process = await asyncio.create_subprocess_exec(
            str(builds.tool("kubectl")),
            *command,
            env={**without_proxy, "KUBECONFIG": str(self.cluster.kubeconfig)},
            stdout=asyncio.subprocess.PIPE,
        )
        told: Manifests = []
        reading = asyncio.create_task(_read_objects(process, told))
        try:
            yield told
        finally:
            process.terminate()
            await process.wait()
            await reading

    def delete_pod(self, pod: Manifest) -> None:
        """Delete a pod as `kubectl delete pod` does, without waiting for it to be gone."""
        self.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    def evict(self, pod: Manifest) -> bool:
        """Ask for a pod's eviction as `kubectl drain` does; False: a budget allows none now."""
        name = pod["metadata"]["name"]
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        try:
            self.cluster.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(eviction))
        except ClusterError as error:
            if "disruption budget" in str(error):
                return False
            raise
        return True

    async def until(self, what: str, holds: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
        """Wait for a condition; when it does not come, say what there is instead."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not await asyncio.to_thread(holds):
            if loop.time() > end:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.story()}")
            await asyncio.sleep(POLL_SECONDS)

    async def until_ready(self, name: str, *, replicas: int) -> None:
        """Wait for Ready=True with so many replicas, of the present generation."""

        def holds() -> bool:
            found = self.get("llmdeployment", name)
            status = found.get("status", {})
            return (
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("readyReplicas", 0) == status.get("replicas", 0) == replicas
                and self.condition(name).get("status") == "True"
            )

        await self.until(f"{name} Ready with {replicas} replicas", holds)

    async def until_reason(self, name: str, reason: str, *, seconds: float = WAIT_SECONDS) -> str:
        """Wait for a reason of Ready and give its message."""
        await self.until(f"{name}: Ready says {reason}", lambda: self._reason(name) == reason, seconds=seconds)
        return str(self.condition(name)["message"])

    def _reason(self, name: str) -> str:
        return str(self.condition(name).get("reason"))

    def story(self) -> str:
        """What a person would look at first when something does not come."""
        parts = [
            self.kubectl("get", "llmdeployments", "--output=wide"),
            self.kubectl("get", "pods", "--output=wide"),
            self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-3000:],
        ]
        return "\n".join(parts)

    def report(self) -> None:
        """Keep the story of the namespace beside the cluster's logs where `SUNDOG_E2E_STORIES` names a folder."""
        if folder := os.environ.get("SUNDOG_E2E_STORIES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, f"{self.namespace}.txt").write_text(self.story())


@functools.cache
def _api(kubeconfig: Path) -> ApiClient:
    settings = Configuration()
    load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
    settings.proxy = None  # as kubectl is called here: without one
    return ApiClient(settings)


async def _read_objects(process: asyncio.subprocess.Process, told: Manifests) -> None:
    """Read JSON objects, one after the other, as kubectl prints them: each ends with a line that is a brace."""
    assert process.stdout
    text = ""
    while line := await process.stdout.readline():
        text += line.decode()
        if line.rstrip() == b"}":
            told.append(json.loads(text))
            text = ""


def post(url: str, body: Manifest, *, seconds: float = 120.0) -> Manifest:
    """POST JSON, answer JSON; without a proxy that the machine may have set.

    Raises:
        AssertionError: the answer is no success; its body is the message.
    """
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers={"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error.code}: {error.read().decode(errors='replace')}") from error
