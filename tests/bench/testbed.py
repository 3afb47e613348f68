"""A control plane with fake nodes, and an account for the operator whose requests the API server counts by themselves.

The account has a FlowSchema of its own, and the API server counts what it dispatches by FlowSchema: every request, also
each watch that is opened, whatever the operator says of itself. Nothing stands between the two.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sundog_operator.api.crd import custom_resource_definition
from sundog_operator.kube.resources import Resource
from tests.bench.api import Api, Manifest
from tests.bench.figures import Counters, counters
from tests.cluster import Cluster, Level, down
from tests.cluster.components import Components
from tests.cluster.components import names as component_names
from tests.cluster.progress import Progress
from tests.cluster.storage import CAPACITY, STORAGE_CLASS
from tests.cluster.waiting import until

NAME = "sundog-bench"
OPERATOR_NAMESPACE = "sundog-system"
FAKE_NODES = 10
"""Room for 5,000 pods: six for each LLMDeployment and a crowd of 300."""
_VOLUME = Resource("v1", "PersistentVolume", "persistentvolumes", namespaced=False)
_DISPATCHED = "apiserver_flowcontrol_dispatched_requests_total"
_REQUESTS = "apiserver_request_total"
_WRITES = ("APPLY", "CREATE", "DELETE", "DELETECOLLECTION", "PATCH", "POST", "PUT", "UPDATE")
_ALWAYS_WRITTEN = frozenset({"leases", "nodes"})
"""What nodes and controllers write at rest: signs of life."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What the API server has counted since it started."""

    found: Counters

    @property
    def by_operator(self) -> float:
        """All requests of the operator, watches included."""
        return self.found.total(_DISPATCHED, flow_schema=NAME)

    @property
    def writes(self) -> dict[str, float]:
        """Writes of anybody, by verb, resource and subresource, without signs of life."""
        every = self.found.by(_REQUESTS, "verb", "resource", "subresource")
        return {
            key: count
            for key, count in every.items()
            if key.split()[0] in _WRITES and key.split()[1] not in _ALWAYS_WRITTEN
        }

    def since(self, before: Requests) -> Requests:
        """What was added."""
        return Requests(self.found.since(before.found))


async def requests(api: Api) -> Requests:
    """Ask the API server what it has counted."""
    return Requests(counters(await api.text("/metrics"), _DISPATCHED, _REQUESTS))


@dataclass(frozen=True, slots=True)
class Testbed:
    """The cluster, and how the operator gets at it."""

    __test__ = False  # no test, whatever pytest takes the name for

    cluster: Cluster
    operator_kubeconfig: Path

    @property
    def processes(self) -> list[int]:
        """Those of the cluster."""
        components = Components(self.cluster.plan, {})
        found = [components.daemon(name).pid for name in component_names(self.cluster.plan)]
        return [process for process in found if process]

    @property
    def log(self) -> Path:
        """Where the operator writes."""
        return self.cluster.plan.folder / "log" / "sundog-operator.log"


@contextmanager
def testbed(progress: Progress) -> Iterator[Testbed]:
    """Bring it up, and take it down without a trace."""
    down(NAME)  # what a bench that was killed left behind
    try:
        cluster = Cluster.up(name=NAME, level=Level.CONTROL_PLANE, kwok=True, progress=progress)
        cluster.add_fake_nodes(FAKE_NODES)
        cluster.apply(_manifests())
        crd = custom_resource_definition()
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(crd))
        # `kubectl wait` fails where the API server has not said anything of the CRD yet.
        assert until(lambda: crd["metadata"]["name"] in cluster.kubectl("api-resources", "--output=name"), seconds=120)
        # Established comes before its storage; kubectl asks again where it is told to.
        cluster.kubectl("get", "llmdeployments", "--all-namespaces")
        yield Testbed(cluster, _kubeconfig(cluster))
    finally:
        down(NAME)


async def offer_volumes(api: Api, count: int) -> None:
    """Make volumes for the claims of so many heads; nothing is ever mounted."""
    await asyncio.gather(*(api.create(_VOLUME, _volume()) for _ in range(count)))


def _volume() -> Manifest:
    return {
        "apiVersion": _VOLUME.api_version,
        "kind": _VOLUME.kind,
        "metadata": {"generateName": f"{NAME}-"},
        "spec": {
            "capacity": {"storage": CAPACITY},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": STORAGE_CLASS,
            "hostPath": {"path": "/nowhere"},
        },
    }


def _manifests() -> list[Manifest]:
    account = {"name": NAME, "namespace": OPERATOR_NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            # Which rights it needs is not the question here; those of the chart have a test of their own.
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "subjects": [{"kind": "ServiceAccount", **account}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        },
        {
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {"name": NAME},
            "spec": {
                "matchingPrecedence": 100,
                # Where requests of any service account go.
                "priorityLevelConfiguration": {"name": "workload-low"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [
                    {
                        "subjects": [{"kind": "ServiceAccount", "serviceAccount": account}],
                        "resourceRules": [
                            {
                                "verbs": ["*"],
                                "apiGroups": ["*"],
                                "resources": ["*"],
                                "clusterScope": True,
                                "namespaces": ["*"],
                            }
                        ],
                        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                    }
                ],
            },
        },
    ]


def _kubeconfig(cluster: Cluster) -> Path:
    """Write one with a token of the operator's account, as a pod would have it."""
    config = json.loads(cluster.kubeconfig.read_text())
    asked = ("create", "token", NAME, f"--namespace={OPERATOR_NAMESPACE}", "--duration=24h")
    config["users"][0]["user"] = {"token": cluster.kubectl(*asked).strip()}
    path = cluster.plan.folder / "kubeconfigs" / "sundog-operator"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path
