"""A cluster from outside: bring it up, use it, break parts of it, take it down."""

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from . import builds, cgroups, control_plane, fake_nodes, folders, node, packages, plan, storage, waiting
from .components import START_SECONDS, Components, names
from .errors import ClusterError
from .plan import Level, Plan
from .processes import Daemon
from .progress import Progress, default_progress
from .versions import KUBERNETES_VERSION

# Logs, etcd and unpacked images; a control plane alone takes 0.3 GiB.
NODE_GIBIBYTES = 8.0
CONTROL_PLANE_GIBIBYTES = 1.0
CONTAINERD_NAMESPACE = "k8s.io"


class Cluster:
    """A running cluster; make one with :meth:`up` or :meth:`existing`."""

    def __init__(self, *, kubeconfig: Path, components: Components | None) -> None:
        self.kubeconfig = kubeconfig
        self._components = components

    @classmethod
    def up(
        cls,
        name: str = "sundog",
        *,
        level: Level | str = Level.NODE,
        kubernetes_version: str = KUBERNETES_VERSION,
        kwok: bool = False,
        api_port: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Bring a cluster up, or what is missing of it: calling it twice, or after a crash, is fine.

        Args:
            name: several clusters with different names run side by side.
            level: a control plane alone (no root needed), or a full node too.
            kubernetes_version: version of the Kubernetes components.
            kwok: also play fake nodes, see :meth:`add_fake_nodes`.
            api_port: port of the API server; by default a free one (6443 inside a node's namespace).
            progress: where to tell what takes time.

        Raises:
            ClusterError: what is missing or went wrong, and what to do.
        """
        progress = progress or default_progress()
        level = Level(level)
        _require(level)
        with folders.locked(
            _lock(name), waiting=lambda: progress.say(f"Another command is at work on cluster {name}: waiting for it.")
        ):
            chosen = _choose(name, level=level, kubernetes_version=kubernetes_version, kwok=kwok, api_port=api_port)
            try:
                programs = builds.build(progress, programs=_programs(chosen), kubernetes_version=kubernetes_version)
            except BaseException:
                if not (chosen.folder / "run").exists():  # it never ran: leave no cluster that is only a plan
                    shutil.rmtree(chosen.folder)
                raise
            cluster = cls(kubeconfig=chosen.kubeconfig, components=Components(chosen, programs))
            cluster._start(progress)
        return cluster

    @classmethod
    def existing(cls, kubeconfig: Path | None = None) -> Self:
        """Use a cluster that somebody else runs; :meth:`down` leaves it alone.

        Args:
            kubeconfig: by default ``$KUBECONFIG``, then ``~/.kube/config``.
        """
        found = kubeconfig or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
        if not found.is_file():
            raise ClusterError(f"There is no kubeconfig {found}: set KUBECONFIG to the file of the cluster to use.")
        return cls(kubeconfig=found, components=None)

    @property
    def plan(self) -> Plan:
        """Name, level, addresses and ports."""
        return self._own.plan

    @property
    def host_ip(self) -> str:
        """The address by which pods reach the host (without a node: by which the API server does)."""
        return self.plan.network.host if self.plan.network else "127.0.0.1"

    def down(self, *, keep_logs: bool = False) -> None:
        """Take the cluster down without a trace. Does nothing to an existing cluster."""
        if self._components:
            down(self.plan.name, keep_logs=keep_logs)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and give what it prints.

        Raises:
            ClusterError: kubectl failed; the message is what it said.
        """
        program = self._components.programs["kubectl"] if self._components else builds.tool("kubectl")
        without_proxy = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            [str(program), *arguments],
            env={**without_proxy, "KUBECONFIG": str(self.kubeconfig)},
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments[:3])} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def apply(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Apply manifests with kubectl."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--filename=-", stdin=json.dumps(listed))

    def load_image(self, archive: Path) -> list[str]:
        """Import an image archive (OCI or ``docker save``) into the node, unless it is there already.

        Returns:
            The names of the images in the archive.
        """
        namespace = self._own.namespace
        if namespace is None:
            raise ClusterError(f"Cluster {self.plan.name} has no node to load an image into: use --level node.")
        identity, images = node.archive_identity(archive)
        record = self.plan.folder / "images.json"
        loaded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
        ctr = (
            str(self._own.programs["ctr"]),
            f"--address={node.CONTAINERD_SOCKET}",
            f"--namespace={CONTAINERD_NAMESPACE}",
        )
        present = set(namespace.run(*ctr, "images", "list", "--quiet").split())
        if not images or any(loaded.get(image) != identity or image not in present for image in images):
            # The path is the host's: the node sees the host's files, except what hides below /run.
            namespace.run(*ctr, "images", "import", "--local", "--all-platforms=false", str(archive.absolute()))
            record.write_text(json.dumps({**loaded, **dict.fromkeys(images, identity)}, indent=2))
        return images

    def host_path_volume(self, name: str, path: Path, namespace: str, claim: str, *, read_only: bool = False) -> None:
        """Offer a folder of the host to pods of a namespace, as the claim ``claim`` bound to the volume ``name``."""
        if not path.is_dir():
            raise ClusterError(f"Volume {name} cannot be made: {path} is no folder.")
        self.apply(
            storage.host_path_claim(
                name=name, path=path.absolute(), namespace=namespace, claim=claim, read_only=read_only
            )
        )
        bound = "--for=jsonpath={.status.phase}=Bound"
        self.kubectl("wait", bound, f"--namespace={namespace}", f"persistentvolumeclaim/{claim}", "--timeout=60s")

    def add_fake_nodes(self, count: int, *, gpus: int = 0, labels: Mapping[str, str] | None = None) -> None:
        """Add nodes played by KWOK and wait until they are ready.

        Raises:
            ClusterError: the cluster was brought up without KWOK.
        """
        if not self.plan.kwok:
            raise ClusterError(f"Cluster {self.plan.name} has no KWOK to play nodes: bring it up with --kwok.")
        self.apply(fake_nodes.manifests(count=count, level=self.plan.level, gpus=gpus, labels=labels or {}))
        self.kubectl("wait", "--for=condition=Ready", "nodes", "--selector=type=kwok", "--timeout=120s")

    def node_run(self, *command: str) -> str:
        """Run a command in the node's own namespaces, as root, and give what it prints.

        Raises:
            ClusterError: the cluster has no node, or the command failed.
        """
        if (namespace := self._own.namespace) is None:
            raise ClusterError(f"Cluster {self.plan.name} has no node: use --level node.")
        return namespace.run(*command)

    def stop_component(self, name: str) -> None:
        """End a component, for instance ``kube-apiserver``; it stays down until it is started."""
        self._component(name).stop()

    def pause_component(self, name: str) -> None:
        """Stop a component's processes by a signal: connections stay open and nothing answers."""
        self._component(name).pause()

    def start_component(self, name: str) -> None:
        """Start a component or let it go on, and wait for the API server where it is that."""
        self._own.start(name)
        if name in {"kube-apiserver", "etcd"}:
            self._own.wait("kube-apiserver", self._own.api_ready)

    @property
    def _own(self) -> Components:
        if self._components is None:
            raise ClusterError(
                "This cluster is not run from here (SUNDOG_USE_EXISTING_CLUSTER): its parts are out of reach."
            )
        return self._components

    def _component(self, name: str) -> Daemon:
        if name not in names(self.plan):
            raise ClusterError(
                f"Cluster {self.plan.name} has no component {name!r}: it has {', '.join(names(self.plan))}."
            )
        return self._own.daemon(name)

    def _start(self, progress: Progress) -> None:
        own, chosen = self._own, self.plan
        own.certificates.make(control_plane.identities(chosen))
        self._write_kubeconfigs()
        namespace = own.namespace
        with progress.task(f"Starting cluster {chosen.name}") as task:
            if namespace and chosen.network:
                task.update(detail="namespaces")
                namespace.start(own.programs["pause"])
                cgroups.make(chosen.name)
                node.write(chosen, chosen.network, own.certificates, shim=own.programs["containerd-shim-runc-v2"])
                own.start("containerd")
            task.update(detail="API server")
            own.start("etcd")
            own.start("kube-apiserver")
            # Without etcd the API server would wait for ever: find that out first.
            both = own.daemon("etcd"), own.daemon("kube-apiserver")
            waiting.until(lambda: own.api_ready() or not all(each.running for each in both), seconds=START_SECONDS)
            own.wait("etcd", lambda: True)
            own.wait("kube-apiserver", own.api_ready)
            if chosen.kwok:
                stages = subprocess.run([own.programs["kwokstages"]], capture_output=True, check=True).stdout
                (chosen.folder / "kwok-stages.yaml").write_bytes(stages)
            if namespace and not own.daemon("kubelet").running:
                # What an earlier kubelet said of this node counts no more.
                lease = ("lease", chosen.node_name, "--namespace=kube-node-lease", "--ignore-not-found")
                self.kubectl("delete", *lease)
            for name in names(chosen)[2:]:
                own.start(name)
            task.update(detail="controllers")
            own.wait("kube-controller-manager", self._controllers_work)
            self._offer_volumes()
            if namespace:
                task.update(detail="node")
                self._load_pause_image()
                own.wait("kubelet", self._node_is_ready)
            for name in names(chosen):
                own.wait(name, lambda: True)

    def _write_kubeconfigs(self) -> None:
        chosen, certificates = self.plan, self._own.certificates
        (chosen.folder / "kubeconfigs").mkdir(exist_ok=True)
        users = ["kube-controller-manager", "kube-scheduler", *(["kubelet", "kube-proxy"] if chosen.network else [])]
        targets = {user: chosen.folder / "kubeconfigs" / user for user in users} | {"admin": chosen.kubeconfig}
        for user, path in targets.items():
            certificates.kubeconfig(path, server=chosen.api_url, identity=user, cluster=chosen.name)

    def _controllers_work(self) -> bool:
        # Pods need this account; the controller manager makes it last of all that they need.
        found = "get", "serviceaccount", "default", "--namespace=default", "--ignore-not-found", "--output=name"
        return bool(self.kubectl(*found).strip())

    def _node_is_ready(self) -> bool:
        node_name = self.plan.node_name
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        lease = ("lease", node_name, "--namespace=kube-node-lease", "--ignore-not-found", "--output=name")
        return (
            self.kubectl("get", "node", node_name, "--ignore-not-found", f"--output={path}") == "True"
            and self.kubectl("get", *lease) != ""
        )

    def _load_pause_image(self) -> None:
        own = self._own
        archive = self.plan.folder / "pause.tar"
        if not archive.exists():
            node.program_archive(own.programs["pause"], archive, image=node.PAUSE_IMAGE)
        ctr = str(own.programs["ctr"])
        namespace = own.namespace
        assert namespace is not None

        def answers() -> bool:
            return namespace.run(ctr, f"--address={node.CONTAINERD_SOCKET}", "version") != ""

        own.wait("containerd", answers)
        self.load_image(archive)

    def _offer_volumes(self) -> None:
        """Make the pool, and put volumes back into it whose claims are gone."""
        selector = f"--selector={storage.POOL_LABEL}=true"
        offered = json.loads(self.kubectl("get", "persistentvolumes", selector, "--output=json"))["items"]
        if len(offered) < storage.POOL_SIZE:
            self.apply([storage.storage_class(), *storage.pool(self.plan)])
        for volume in offered:
            if volume.get("status", {}).get("phase") == "Released":
                name = volume["metadata"]["name"]
                storage.empty(storage.pool_folder(self.plan, name))
                self.kubectl("patch", "persistentvolume", name, "--type=merge", '--patch={"spec":{"claimRef":null}}')


def down(name: str, *, keep_logs: bool = False) -> bool:
    """Take a cluster down without a trace, and tell whether there was one. Safe to call at any time."""
    with folders.locked(_lock(name)):
        kept = Plan.load(name)
        if kept is None:
            return False
        if kept.level is Level.NODE:
            require_root()
        own = Components(kept, {})
        if own.namespace:
            own.namespace.stop()
        for component in reversed(names(kept)):
            own.daemon(component).kill()
        if kept.level is Level.NODE and not cgroups.remove(name):
            raise ClusterError(f"Cgroups of cluster {name} are still in use below {cgroups.ROOT}: call down once more.")
        _delete(kept.folder, keep_logs=keep_logs)
        return True


def require_root() -> None:
    """Refuse when not root, for a full node."""
    if os.geteuid() != 0:
        raise ClusterError(
            "A full node needs root, for namespaces, mounts and cgroups: "
            "run it as root, or use --level control-plane, which needs none."
        )


def _require(level: Level) -> None:
    if level is Level.NODE:
        require_root()
    packages.require(level)
    needed = NODE_GIBIBYTES if level is Level.NODE else CONTROL_PLANE_GIBIBYTES
    folders.require_space(folders.clusters(), gibibytes=needed, purpose=f"A cluster of level {level}")


def _programs(chosen: Plan) -> list[str]:
    needed = builds.NODE if chosen.level is Level.NODE else builds.CONTROL_PLANE
    return [*needed, *(builds.FAKE_NODES if chosen.kwok else ())]


def _lock(name: str) -> Path:
    return folders.cache() / "locks" / name


def _choose(name: str, *, level: Level, kubernetes_version: str, kwok: bool, api_port: int | None) -> Plan:
    """Take the kept plan, or make one; only one caller chooses addresses at a time."""
    with folders.locked(folders.cache() / "locks" / ".allocation"):
        kept = Plan.load(name)
        if kept is None:
            chosen = plan.choose(
                name=name, level=level, kubernetes_version=kubernetes_version, kwok=kwok, api_port=api_port
            )
        elif (kept.level, kept.kubernetes_version) != (level, kubernetes_version):
            raise ClusterError(
                f"Cluster {name} exists with level {kept.level} and Kubernetes {kept.kubernetes_version}: "
                f"take it down first, or give the new one another --name."
            )
        elif api_port not in {None, kept.api_port}:
            raise ClusterError(
                f"Cluster {name} exists with port {kept.api_port}: take it down first to move it to {api_port}."
            )
        else:
            chosen = _with_usable_ports(dataclasses.replace(kept, kwok=kept.kwok or kwok))
        chosen.save()
    return chosen


def _with_usable_ports(kept: Plan) -> Plan:
    """After a crash somebody else may hold the ports; inside a node's namespace nobody can."""
    if kept.level is Level.NODE:
        return kept
    own = Components(kept, {})
    ports = plan.free_ports(without=set())
    if not own.daemon("kube-apiserver").running and not plan.port_is_free(kept.api_port):
        if kept.ports_were_asked_for:
            plan.require_port(kept.api_port)
        kept = dataclasses.replace(kept, api_port=next(ports))
    if not own.daemon("etcd").running and not (
        plan.port_is_free(kept.etcd_port) and plan.port_is_free(kept.etcd_peer_port)
    ):
        own.daemon("kube-apiserver").kill()  # it knows etcd by its old port
        kept = dataclasses.replace(kept, etcd_port=next(ports), etcd_peer_port=next(ports))
    return kept


def _delete(folder: Path, *, keep_logs: bool) -> None:
    if not keep_logs:
        shutil.rmtree(folder)
        return
    for entry in folder.iterdir():
        if entry.name != "log":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
