"""A small world for plans: it carries writes out as Kubernetes and Ray Serve would, so that passes can be chained.

It is a model for pure tests, not a stand-in for the real API server: what that does is tested in tests/apiserver.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sundog_operator.config import Config
from sundog_operator.core import names
from sundog_operator.core.adapters import replicas_to_ask
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.heads import heads_to_ask
from sundog_operator.core.history import formed_by
from sundog_operator.core.names import Manifest, ObjectKey, key_of
from sundog_operator.core.observed import AdapterState, HeadUnreachable, Observed, Replica, RouterLoad, ServeState
from sundog_operator.core.plan import make_plan
from sundog_operator.core.resolve import Resolved, resolve
from sundog_operator.core.status import status
from sundog_operator.core.writes import Apply, Create, Delete, Plan, PutServe, Scale, ScaleServe, Write
from sundog_operator.core.zero import asks_routers

MASTER_KEY = b"k" * 32
START = 1_800_000_000.0
IDLE = RouterLoad(ongoing=0, waiting=0, idle_seconds=0.0, servers=1)


def resource(name: str = "qwen3", **spec: Any) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": "team", "uid": "u-1", "generation": 1},
        "spec": {"model": {"uri": "hf://Qwen/Qwen3-0.6B"}, **spec},
    }


@dataclass
class Serve:
    config: dict[str, Any] | None = None
    target: int | None = None
    replicas: dict[str, str] = field(default_factory=dict)
    """State by pod address."""
    message: str = ""
    status: str | None = None
    put_at: float = 0.0


@dataclass
class World:
    resource: Manifest
    config: Config = field(default_factory=Config)
    children: dict[ObjectKey, Manifest] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    pods: dict[str, Manifest] = field(default_factory=dict)
    serves: dict[str, Serve] = field(default_factory=dict)
    heads_away: bool = False
    adapters_fail: dict[str, str] = field(default_factory=dict)
    """By name: in which words."""
    readiness_lags: bool = False
    """Whether a pod stays ready while its replica drains, as it does for some seconds."""
    broken: set[str] = field(default_factory=set)
    """Revisions whose replicas never become ready."""
    router_says: RouterLoad | str = IDLE
    other_autoscalers: tuple[Manifest, ...] = ()
    custom_metrics_trouble: str | None = None
    keda: bool = False
    scaled_to: int | None = None
    default_storage_class: bool = True
    now: float = START
    log: list[Write] = field(default_factory=list)
    _made: int = 0

    def edit(self, **spec: Any) -> None:
        self.resource = copy.deepcopy(self.resource)
        self.resource["spec"] |= spec
        self.resource["metadata"]["generation"] += 1

    @property
    def resolved(self) -> Resolved:
        history = formed_by(self.resource["metadata"]["name"], self.children)
        return resolve(self.resource, self.config, MASTER_KEY, history)

    def observe(self) -> Observed:
        seen = Observed(
            resource=self.resource,
            children=dict(self.children),
            pods=tuple(self.pods.values()),
            default_storage_class=self.default_storage_class,
            other_autoscalers=self.other_autoscalers,
            custom_metrics_trouble=self.custom_metrics_trouble,
            keda=self.keda,
            scaled_to=self.scaled_to,
            unix_seconds=self.now,
        )
        resolved = self.resolved
        asked = heads_to_ask(resolved, seen)
        heads = {revision: self._ask(revision) for revision in asked}
        seen = replace(seen, heads=heads, routers=self._ask_routers() if asks_routers(resolved, seen) else None)
        replicas = replicas_to_ask(resolved, seen, {})
        return replace(seen, adapters={pod["metadata"]["name"]: self._ask_for_adapters(pod) for pod in replicas})

    def _ask_for_adapters(self, pod: Manifest) -> tuple[AdapterState, ...]:
        """A replica that has at once what Serve was told."""
        config = self.serves[pod["metadata"]["labels"][names.REVISION_LABEL]].config
        assert config
        wanted = config["applications"][0]["deployments"][0]["user_config"]["adapters"]
        states = []
        for entry in wanted:
            failed = self.adapters_fail.get(entry["name"])
            state, message = ("failed", failed) if failed else ("loaded", "")
            states.append(AdapterState(entry["name"], entry["uri"], entry["revision"], state, message))
        return tuple(states)

    def _ask_routers(self) -> dict[str, RouterLoad | str]:
        return dict.fromkeys(("router-1", "router-2"), self.router_says)

    def _ask(self, revision: str) -> ServeState | HeadUnreachable:
        if self.heads_away:
            return HeadUnreachable("the head does not answer: connection refused")
        serve = self.serves.setdefault(revision, Serve())
        replicas = tuple(Replica(f"r-{ip}", state, ip) for ip, state in serve.replicas.items())
        if serve.config is None:
            return ServeState(None)
        application = serve.config["applications"][0]
        return ServeState(
            serve.status or "RUNNING",
            serve.message,
            serve.target,
            replicas,
            deployed_unix_seconds=serve.put_at,
            deployed_config=application,
        )

    def step(self) -> Plan:
        """One pass; its writes are carried out, then its status."""
        try:
            resolved = self.resolved
        except InvalidSpec as error:
            self.resource["status"] = status(error, self.observe_plain())
            return Plan()
        observed = self.observe()
        plan = make_plan(resolved, observed)
        for write in plan.writes:
            self.carry_out(write)
        self.resource = {**self.resource, "status": status(resolved, self.observe())}
        return plan

    def observe_plain(self) -> Observed:
        return Observed(self.resource, unix_seconds=self.now)

    def carry_out(self, write: Write) -> None:
        self.log.append(write)
        match write:
            case Apply(manifest):
                self._apply(copy.deepcopy(manifest))
            case Create(manifest):
                self.secrets.add(manifest["metadata"]["name"])
            case Delete(key, uid):
                assert self.children[key]["metadata"]["uid"] == uid
                del self.children[key]
            case PutServe(revision, config):
                serve = self.serves.setdefault(revision, Serve())
                serve.config = dict(config)
                serve.put_at = self.now
                serve.target = config["applications"][0]["deployments"][0]["num_replicas"]
            case Scale(replicas):
                self.edit(replicas=replicas)
                self.scaled_to = replicas
            case ScaleServe(revision, target):
                self.serves[revision].target = target

    def _apply(self, manifest: Manifest) -> None:
        if manifest["kind"] == "Pod":
            pod = self.pods[manifest["metadata"]["name"]]
            pod["metadata"]["annotations"] = manifest["metadata"].get("annotations", {})
            return
        self._made += 1
        before = self.children.get(key_of(manifest), {"metadata": {"uid": f"c-{self._made}"}})
        manifest["metadata"]["uid"] = before["metadata"]["uid"]
        manifest["metadata"].setdefault("creationTimestamp", _timestamp(self.now))
        manifest["status"] = before.get("status", {})
        self.children[key_of(manifest)] = manifest

    def settle(self, *, ready: bool = True) -> None:
        """Let Kubernetes and Ray do what they were told: pods come and go, replicas start; drains stay open."""
        for key, manifest in list(self.children.items()):
            if key.kind != "Deployment":
                continue
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            if labels[names.COMPONENT_LABEL] == names.WORKER:
                self._settle_workers(manifest, labels, ready=ready)
            else:
                counts = ("replicas", "readyReplicas", "updatedReplicas")
                manifest["status"] = dict.fromkeys(counts, manifest["spec"]["replicas"])
        owners = {ObjectKey("Deployment", pod["metadata"]["owner"]) for pod in self.pods.values()}
        for gone in owners - self.children.keys():
            self.pods = {name: pod for name, pod in self.pods.items() if pod["metadata"]["owner"] != gone.name}

    def _settle_workers(self, manifest: Manifest, labels: dict[str, str], *, ready: bool) -> None:
        name, revision = manifest["metadata"]["name"], labels[names.REVISION_LABEL]
        mine = [pod for pod in self.pods.values() if pod["metadata"]["owner"] == name]
        # As the ReplicaSet controller chooses: not ready first, then the lower deletion cost.
        mine.sort(key=lambda pod: (_ready(pod), _cost(pod)))
        while len(mine) > manifest["spec"]["replicas"]:
            gone = mine.pop(0)
            ip = gone["status"]["podIP"]
            assert self.serves.get(revision, Serve()).replicas.get(ip) in {None, "STARTING"}, (
                "a pod with a replica went"
            )
            del self.pods[gone["metadata"]["name"]]
        while len(mine) < manifest["spec"]["replicas"]:
            self._made += 1
            mine.append(self._pod(name, labels))
        serve = self.serves.get(revision)
        if serve and serve.target is not None:
            for pod in mine:
                running = [ip for ip, state in serve.replicas.items() if state == "RUNNING"]
                ip = pod["status"]["podIP"]
                if ip not in serve.replicas and len(running) < serve.target and ready and revision not in self.broken:
                    serve.replicas[ip] = "RUNNING"
            running = [ip for ip, state in serve.replicas.items() if state == "RUNNING"]
            for ip in running[serve.target :]:
                serve.replicas[ip] = "STOPPING"
        for pod in mine:
            states = {"RUNNING", "STOPPING"} if self.readiness_lags else {"RUNNING"}
            running_here = bool(serve) and serve.replicas.get(pod["status"]["podIP"]) in states
            if running_here != _ready(pod):
                set_ready(pod, ready=running_here, at=self.now)

    def round(self) -> Plan:
        """One pass, and what comes of it at once."""
        plan = self.step()
        self.settle()
        self.drain_ends()
        return plan

    def crash(self, pod: Manifest, *, restarts: int, code: int = 1) -> None:
        """Let a pod's container end and begin anew, with its replica away."""
        revision = pod["metadata"]["labels"][names.REVISION_LABEL]
        self.serves[revision].replicas.pop(pod["status"]["podIP"], None)
        set_ready(pod, ready=False, at=self.now)
        terminated = {"exitCode": code, "reason": "Error"}
        state = {"restartCount": restarts, "started": False, "lastState": {"terminated": terminated}}
        pod["status"]["containerStatuses"] = [{"name": "engine", "image": "i", **state}]

    def drain_ends(self) -> None:
        for serve in self.serves.values():
            serve.replicas = {ip: state for ip, state in serve.replicas.items() if state != "STOPPING"}

    def _pod(self, owner: str, labels: dict[str, str]) -> Manifest:
        pod = {
            "kind": "Pod",
            "metadata": {
                "name": f"{owner}-{self._made}",
                "namespace": "team",
                "uid": f"p-{self._made}",
                "labels": dict(labels),
                "owner": owner,
                "creationTimestamp": _timestamp(self.now),
            },
            "status": {"phase": "Running", "podIP": f"10.0.0.{self._made}"},
        }
        self.pods[pod["metadata"]["name"]] = pod
        return pod

    def converge(self, *, drains_end: bool = True, passes: int = 40) -> None:
        """Pass after pass until nothing is written any more."""
        for _ in range(passes):
            plan = self.step()
            self.settle()
            if drains_end:
                self.drain_ends()
            if not plan.writes and not self.step().writes:
                return
        raise AssertionError(f"no end after {passes} passes; last writes: {self.log[-5:]}")

    def ready(self) -> tuple[str, str]:
        (found,) = [c for c in self.resource["status"]["conditions"] if c["type"] == "Ready"]
        return found["status"], found["reason"]

    def conditions(self) -> dict[str, str]:
        return {c["type"]: c["status"] for c in self.resource["status"]["conditions"]}

    def workers(self) -> dict[str, int]:
        return {
            key.name: manifest["spec"]["replicas"]
            for key, manifest in self.children.items()
            if key.kind == "Deployment" and key.name.endswith("-worker")
        }


def kinds(writes: Iterable[Write]) -> list[str]:
    return [w.manifest["kind"] if isinstance(w, Apply | Create) else type(w).__name__ for w in writes]


def set_ready(pod: Manifest, *, ready: bool, at: float = START) -> None:
    started = ready or any(s.get("started") for s in pod["status"].get("containerStatuses", []))
    pod["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": _timestamp(at)},
    ]
    pod["status"]["containerStatuses"] = [{"name": "engine", "image": "i", "started": started}]


def _ready(pod: Manifest) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def _cost(pod: Manifest) -> int:
    return int(pod["metadata"].get("annotations", {}).get(names.POD_DELETION_COST_ANNOTATION, 0))


def _timestamp(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
