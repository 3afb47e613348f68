"""The processes of one cluster, each by its name: start, stop, pause, and what to say when one dies."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import control_plane, node, waiting
from .certificates import Certificates
from .errors import ClusterError
from .namespace import ENVIRONMENT, Namespace
from .plan import Level, Plan
from .processes import Daemon, last_telling_line

# On two processors that also build something, the API server took up to 40 s.
START_SECONDS = 120.0
# Memory is not scarce on a machine that tests; processors are. Go's default collects four times as often.
SELDOM_COLLECTED = {"GOGC": "400"}


def names(plan: Plan) -> list[str]:
    """List a cluster's components in the order in which they start."""
    found = list(control_plane.COMPONENTS)
    if plan.level is Level.NODE:
        found += node.COMPONENTS
    if plan.kwok:
        found.append("kwok")
    return found


@dataclass(frozen=True, slots=True)
class Components:
    """The components of one cluster."""

    plan: Plan
    programs: dict[str, Path]
    started: set[str] = field(default_factory=set)
    """What was started through this object; the rest was found running."""

    @property
    def certificates(self) -> Certificates:
        """The cluster's keys."""
        return Certificates(self.plan.folder / "pki")

    @property
    def namespace(self) -> Namespace | None:
        """The node's namespaces; None where there is only a control plane."""
        if self.plan.network is None:
            return None
        return Namespace(self.daemon("node"), self.plan.folder, self.plan.node_name, self.plan.network)

    def daemon(self, name: str) -> Daemon:
        """Give the process of a component."""
        return Daemon(name, self.plan.folder / "run" / f"{name}.json", self.plan.folder / "log" / f"{name}.log")

    def start(self, name: str) -> None:
        """Start a component unless it runs; let it go on when it is paused.

        Raises:
            ClusterError: there is no such component.
        """
        if name not in names(self.plan):
            raise ClusterError(
                f"Cluster {self.plan.name} has no component {name!r}: it has {', '.join(names(self.plan))}."
            )
        daemon = self.daemon(name)
        if daemon.running:
            daemon.resume()
            return
        command = [str(self.programs[name]), *self._flags(name)]
        if self.namespace:
            command = self.namespace.enter(command)
        self.started.add(name)
        daemon.start(command, environment={**ENVIRONMENT, **SELDOM_COLLECTED})

    def wait(self, name: str, ready: Callable[[], bool], *, seconds: float = START_SECONDS) -> None:
        """Wait until a component serves; a ClusterError of ``ready`` means "not yet".

        Raises:
            ClusterError: it died, or the time is over; the message quotes its log.
        """
        daemon = self.daemon(name)
        asked = "no answer"

        def over() -> bool:
            nonlocal asked
            if not daemon.running:
                if name in self.started:
                    return True
                self.start(name)  # it seemed to run, but had been killed just before
            try:
                return ready()
            except ClusterError as error:
                asked = str(error)
                return False

        in_time = waiting.until(over, seconds=seconds)
        if not daemon.running:
            raise ClusterError(f"{name} ended at its start: {last_telling_line(daemon.log)} (log: {daemon.log}).")
        if not in_time:
            raise ClusterError(f"{name} runs but is not ready after {seconds:g} s: {asked} (log: {daemon.log}).")

    def api_ready(self) -> bool:
        """Ask the API server whether it is ready; False also when nobody answers."""
        trusted = ssl.create_default_context(cafile=str(self.certificates.certificate("ca")))
        # No proxy: the address is this machine's own.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        )
        try:
            with opener.open(f"{self.plan.api_url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _flags(self, name: str) -> list[str]:
        plan, certificates = self.plan, self.certificates
        flags: dict[str, Callable[[], list[str]]] = {
            "etcd": lambda: control_plane.etcd(plan),
            "kube-apiserver": lambda: control_plane.kube_apiserver(plan, certificates),
            "kube-controller-manager": lambda: control_plane.kube_controller_manager(plan, certificates),
            "kube-scheduler": lambda: control_plane.kube_scheduler(plan),
            "kwok": lambda: control_plane.kwok(plan),
            "containerd": lambda: node.containerd(plan),
            "kube-proxy": lambda: node.kube_proxy(plan),
            "coredns": lambda: node.coredns(plan),
        }
        if name == "kubelet" and plan.network:
            return node.kubelet(plan, plan.network)
        return flags[name]()
