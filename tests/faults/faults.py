"""The faults: each a way to break something that runs, and to tell when it is whole again."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.cluster import ClusterError
from tests.e2e.site import Manifest, Site

NAME: Final = "faulty"
REPLICAS: Final = 3
API_SERVER_SECONDS: Final = 60.0
DISK: Final = "/var/lib/sundog-small-disk"
"""In the node's own mount namespace: a disk of the size of a head's state, and no more."""
DISK_CLASS: Final = "small-disk"

# Tells how many requests the replica has, and sends a signal to processes by their names (the kernel keeps 15
# characters) in the same breath.
_HIT = """
import glob, json, os, signal, sys, urllib.request
names, number = sys.argv[1].split(","), getattr(signal, sys.argv[2])
token = {"x-sundog-replica-token": os.environ["SUNDOG_REPLICA_TOKEN"]}
ask = urllib.request.Request("http://127.0.0.1:30000/sundog/load", headers=token)
load = json.load(urllib.request.urlopen(ask, timeout=10))
for stat in glob.glob("/proc/[0-9]*/stat"):
    text = open(stat).read()
    if any(name in text[text.index("(") : text.rindex(")")] for name in names):
        os.kill(int(text.partition(" ")[0]), number)
print(load["running"] + load["waiting"])
"""


# Processes of an engine and its replica, with the kernel's time of their start: a successor differs in it.
_PROCESSES = """
import glob
for stat in sorted(glob.glob("/proc/[0-9]*/stat")):
    text = open(stat).read()
    if "ray::ServeRepli" in text or "VLLM::" in text:
        print(text.partition(" ")[0], text.rpartition(")")[2].split()[19])
"""


@dataclass(slots=True)
class Scene:
    """A fault that is under way."""

    site: Site
    name: str
    replicas: int
    on_victim: int = 0
    marks: dict[str, Any] = field(default_factory=dict)
    """What was there before, by which it is known when all is whole."""

    def processes(self, pod: str) -> str:
        """The processes of a worker pod's engine; empty while there is no container to look into."""
        try:
            return self.site.kubectl("exec", pod, "--", "python3", "-c", _PROCESSES)
        except ClusterError:
            return ""

    def is_whole(self) -> bool:
        """Whether it is Ready with all replicas, and every pod of it as well."""
        found = self.site.get("llmdeployment", self.name)
        status: Manifest = found.get("status", {})
        pods = [pod for component in ("head", "worker", "router") for pod in self.site.pods(self.name, component)]
        return (
            _is_ready(found)
            and status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("readyReplicas") == self.replicas
            and all(_is_ready(pod) for pod in pods)
        )


def _is_ready(found: Manifest) -> bool:
    conditions = found.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


Break = Callable[[Scene], Awaitable[None]]
Over = Callable[[Scene], bool]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks."""

    name: str
    title: str
    inject: Break
    """Breaks it; where it lasts, mends it, too: it returns when the fault is over."""
    changed: Over
    """Whether it has left its trace: before, all may look whole because nobody has noticed yet."""
    vllm: bool = False
    spec: dict[str, Any] = field(default_factory=dict)


def _has_successor(scene: Scene) -> bool:
    """Whether none of the victim's processes is there any more, and others are."""
    now = set(scene.processes(scene.marks["pod"]).splitlines())
    return bool(now) and not now & scene.marks["processes"]


def _replaced(component: str) -> Over:
    def replaced(scene: Scene) -> bool:
        there = scene.site.uids(scene.name, component)
        return scene.marks["victim"] not in there and len(there) > 0

    return replaced


def _at_once(_: Scene) -> bool:
    return True


def _hit(names: str, signal: str) -> Break:
    async def inject(scene: Scene) -> None:
        victim = scene.site.pods(scene.name, "worker")[0]["metadata"]["name"]
        scene.marks |= {"pod": victim, "processes": set(scene.processes(victim).splitlines())}
        hit = ("exec", victim, "--", "python3", "-c", _HIT, names, signal)
        scene.on_victim = int(await asyncio.to_thread(scene.site.kubectl, *hit))

    return inject


def _delete(component: str, *how: str) -> Break:
    async def inject(scene: Scene) -> None:
        victim = scene.site.pods(scene.name, component)[0]
        scene.marks["victim"] = victim["metadata"]["uid"]
        name = victim["metadata"]["name"]
        if "--force" in how and component == "worker":
            told = await asyncio.to_thread(
                scene.site.kubectl, "exec", name, "--", "python3", "-c", _HIT, "nothing", "SIGCONT"
            )
            scene.on_victim = int(told)
        await asyncio.to_thread(scene.site.kubectl, "delete", "pod", name, "--wait=false", *how)

    return inject


async def _kill_operator_in_a_rollout(scene: Scene) -> None:
    site = scene.site
    before = site.uids(scene.name)
    patch = '{"spec":{"engine":{"env":[{"name":"TEST_CHANGE","value":"1"}]}}}'
    site.kubectl("patch", "llmdeployment", scene.name, "--type=merge", f"--patch={patch}")
    await site.until(
        "the first pod of the new revision",
        lambda: bool(site.uids(scene.name) - before),
    )
    operator = ("--namespace=sundog-system", "--selector=app.kubernetes.io/name=sundog-operator")
    site.cluster.kubectl("delete", "pods", *operator, "--force", "--grace-period=0")
    scene.marks["before"] = before


def _rolled_out(scene: Scene) -> bool:
    return not scene.site.uids(scene.name) & scene.marks["before"]


async def _stop_api_server(scene: Scene) -> None:
    cluster = scene.site.cluster
    cluster.pause_component("kube-apiserver")
    try:
        await asyncio.sleep(API_SERVER_SECONDS)
    finally:
        await asyncio.to_thread(cluster.start_component, "kube-apiserver")


async def _cordon(scene: Scene) -> None:
    """As `kubectl drain` begins, on the only node there is: what is evicted finds no other place for a while."""
    site = scene.site
    (node,) = [node["metadata"]["name"] for node in site.list("nodes")]
    victim = site.pods(scene.name, "worker")[0]
    scene.marks["victim"] = victim["metadata"]["uid"]
    site.cluster.kubectl("cordon", node)
    try:
        assert site.evict(victim)
        await site.until("the status says so", lambda: site.condition(scene.name).get("reason") == "Unschedulable")
        await asyncio.sleep(20)
    finally:
        site.cluster.kubectl("uncordon", node)


async def _fill_disk(scene: Scene) -> None:
    """Fill it, have the head write, and make room again."""
    site = scene.site
    inside = site.cluster.node_run
    inside("sh", "-c", f"cat /dev/zero > {shlex.quote(DISK)}/filler 2>/dev/null || true")
    try:
        worker = site.pods(scene.name, "worker")[0]
        site.delete_pod(worker)  # the head has to write down that a node has gone and another come
        scene.marks["victim"] = worker["metadata"]["uid"]
        await asyncio.sleep(45)
    finally:
        inside("rm", "-f", f"{DISK}/filler")


def small_disk(site: Site) -> None:
    """Offer a volume of 64 MiB to the head."""
    mount = f"mkdir -p {DISK} && (mountpoint -q {DISK} || mount -t tmpfs -o size=64m,mode=777 tmpfs {DISK})"
    site.cluster.node_run("sh", "-c", mount)
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": DISK_CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": "Retain",
    }
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{site.namespace}-small-disk"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": DISK_CLASS,
            "hostPath": {"path": DISK, "type": "Directory"},
        },
    }
    try:
        site.cluster.apply([storage, volume])
    except ClusterError as error:
        raise AssertionError(f"the small disk could not be offered: {error}") from error


def _by_name(*faults: Fault) -> dict[str, Fault]:
    return {fault.name: fault for fault in faults}


FAULTS: Final = _by_name(
    Fault("replica-killed", "replica process killed", _hit("ray::ServeRepli", "SIGKILL"), _has_successor),
    Fault(
        "engine-killed", "engine process killed (vLLM)", _hit("VLLM::EngineCor", "SIGKILL"), _has_successor, vllm=True
    ),
    Fault(
        "engine-wedged",
        "engine wedged (vLLM)",
        _hit("VLLM::EngineCor,VLLM::Worker", "SIGSTOP"),
        _has_successor,
        vllm=True,
    ),
    Fault("worker-deleted", "worker pod deleted", _delete("worker"), _replaced("worker")),
    Fault(
        "worker-lost", "worker pod gone at once", _delete("worker", "--force", "--grace-period=0"), _replaced("worker")
    ),
    Fault("head-deleted", "head pod deleted", _delete("head"), _replaced("head")),
    Fault("router-deleted", "router pod deleted", _delete("router"), _replaced("router")),
    Fault("operator-killed", "operator killed in the midst of a rollout", _kill_operator_in_a_rollout, _rolled_out),
    Fault("api-server-stopped", f"API server stopped for {API_SERVER_SECONDS:.0f} s", _stop_api_server, _at_once),
    Fault("node-cordoned", "node unschedulable, and a worker evicted", _cordon, _replaced("worker")),
    Fault(
        "disk-full",
        "disk of the head's claim full",
        _fill_disk,
        _replaced("worker"),
        spec={"ray": {"head": {"storage": {"storageClassName": DISK_CLASS}}}},
    ),
)
