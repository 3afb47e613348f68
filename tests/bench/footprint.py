"""What head, router and worker weigh with nothing in them: PSS of the processes of real pods, the fake engine's.

PSS shares the pages of libraries among those that have them mapped, so the sum over a node is what the node gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sundog_operator.core import names
from tests.bench.api import Manifest
from tests.bench.errors import BenchError
from tests.bench.node import install, node
from tests.cluster.progress import Progress
from tests.demo.chart import RELEASE_NAMESPACE

NAME = "sundog-bench-node"
NAMESPACE = "bench"
READY_SECONDS = 420.0
SETTLE_SECONDS = 15.0
"""After Ready: what was needed only to start is given back."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """One pod of a component."""

    component: str
    mebibytes: float
    processes: int


def measure_footprint(progress: Progress) -> list[Footprint]:
    """Bring a node up, serve with the fake engine, and weigh.

    Raises:
        BenchError: it did not come to serve.
        ClusterError, ImageError: the node or an image could not be made.
    """
    with node(NAME, progress) as cluster, progress.task("Weighing the pods of one LLMDeployment") as task:
        task.update(detail="installing the chart")
        install(cluster)
        cluster.apply(_manifests())
        task.update(detail="waiting for Ready")
        waiting = ("--for=condition=Ready", "llmdeployment/footprint", f"--timeout={READY_SECONDS:g}s")
        cluster.kubectl("wait", f"--namespace={NAMESPACE}", *waiting)
        task.update(detail="letting it settle")
        time.sleep(SETTLE_SECONDS)
        pods = json.loads(cluster.kubectl("get", "pods", "--all-namespaces", "--output=json"))["items"]
        return list(_weigh(pods))


def _manifests() -> list[Manifest]:
    spec = {
        "model": {"uri": "hf://sundog/bench"},
        "engine": {"name": "fake"},
        "router": {"replicas": 1},
        "ray": {"head": {"resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}}},
    }
    metadata = {"name": "footprint", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec},
    ]


def _weigh(pods: Iterable[Manifest]) -> Iterator[Footprint]:
    by_container = _processes_by_container()
    for pod in pods:
        component = (pod["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL)
        if pod["metadata"]["namespace"] == RELEASE_NAMESPACE:
            component = "operator"
        if not component:
            continue
        containers = [status["containerID"].rpartition("/")[2] for status in pod["status"]["containerStatuses"]]
        processes = [process for container in containers for process in by_container.get(container, ())]
        if not processes:
            raise BenchError(f"pod {pod['metadata']['name']} is Ready and has no process")
        yield Footprint(component, sum(map(pss_mebibytes, processes)), len(processes))


def _processes_by_container() -> dict[str, list[int]]:
    """List the processes of every container; the last part of its control group is its id."""
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                for container in {line.rpartition("/")[2] for line in (entry / "cgroup").read_text().splitlines()}:
                    found.setdefault(container, []).append(int(entry.name))
    return found


def pss_mebibytes(process: int) -> float:
    """Give what a process has in memory, its part of what it shares; 0 when it has just ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
