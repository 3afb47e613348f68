"""What a cluster is to be: its level, addresses and ports, chosen once and kept in its folder."""

import dataclasses
import enum
import ipaddress
import json
import random
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from . import folders
from .errors import ClusterError
from .processes import holder_of_port
from .versions import KUBERNETES_VERSION

NAME_PATTERN = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")
# Below the range from which the kernel takes ports for outgoing connections.
PORTS = range(20000, 32000)
API_PORT = 6443
# Second octets of the private networks that clusters take: 10.180.0.0/16 is the first.
OCTETS = range(180, 220)


class Level(enum.StrEnum):
    """How much of a Kubernetes runs."""

    CONTROL_PLANE = "control-plane"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of a node: one 10.x.0.0/16, which exists only inside its namespace and on its veth pair."""

    octet: int

    @property
    def whole(self) -> str:
        """All that the host routes into the node."""
        return f"10.{self.octet}.0.0/16"

    @property
    def pods(self) -> str:
        """Addresses of pods."""
        return f"10.{self.octet}.0.0/17"

    @property
    def services(self) -> str:
        """Addresses of Services."""
        return f"10.{self.octet}.128.0/18"

    @property
    def kubernetes_service(self) -> str:
        """The API server as pods know it: the first address for Services."""
        return f"10.{self.octet}.128.1"

    @property
    def host(self) -> str:
        """The host's end of the veth pair."""
        return f"10.{self.octet}.255.1"

    @property
    def node(self) -> str:
        """The node's end: address of the API server, of kubelet and of DNS."""
        return f"10.{self.octet}.255.2"

    @property
    def interface(self) -> str:
        """Name of the host's end (an interface name has at most 15 characters)."""
        return f"sundog{self.octet}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices for one cluster."""

    name: str
    level: Level
    kubernetes_version: str = KUBERNETES_VERSION
    kwok: bool = False
    api_port: int = API_PORT
    etcd_port: int = 2379
    etcd_peer_port: int = 2380
    octet: int | None = None
    """Second octet of the network of a node."""
    ports_were_asked_for: bool = False

    @property
    def folder(self) -> Path:
        """Where state and logs are."""
        return folders.clusters() / self.name

    @property
    def network(self) -> Network | None:
        """The node's addresses; None where there is only a control plane."""
        return None if self.octet is None else Network(self.octet)

    @property
    def api_address(self) -> str:
        """Where the API server listens."""
        return self.network.node if self.network else "127.0.0.1"

    @property
    def api_url(self) -> str:
        """URL of the API server, as the host and every component reach it."""
        return f"https://{self.api_address}:{self.api_port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def node_name(self) -> str:
        """Name of the one real node."""
        return f"{self.name}-node"

    def save(self) -> None:
        """Keep the plan in the cluster's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folders.write(self.folder / "cluster.json", json.dumps(dataclasses.asdict(self), indent=2))

    @classmethod
    def load(cls, name: str) -> Self | None:
        """Read the plan of a cluster; None when there is no such cluster."""
        try:
            kept: dict[str, Any] = json.loads((folders.clusters() / name / "cluster.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return cls(**{**kept, "level": Level(kept["level"])})


def every_plan() -> Iterator[Plan]:
    """All clusters that have a folder, running or not."""
    for kept in sorted(folders.clusters().glob("*/cluster.json")):
        if plan := Plan.load(kept.parent.name):
            yield plan


def choose(*, name: str, level: Level, kubernetes_version: str, kwok: bool, api_port: int | None = None) -> Plan:
    """Choose ports and addresses that no other cluster has. Hold the allocation lock until the plan is saved.

    Raises:
        ClusterError: the name is unfit, a port that was asked for is taken, or there are too many clusters.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ClusterError(f"{name!r} is no name for a cluster: use up to 32 lower-case letters, digits and dashes.")
    if level is Level.NODE:
        return Plan(
            name=name,
            level=level,
            kubernetes_version=kubernetes_version,
            kwok=kwok,
            api_port=api_port or API_PORT,
            octet=_free_octet(),
        )
    taken = {port for plan in every_plan() for port in (plan.api_port, plan.etcd_port, plan.etcd_peer_port)}
    ports = free_ports(without=taken)
    if api_port is not None:
        require_port(api_port)
    return Plan(
        name=name,
        level=level,
        kubernetes_version=kubernetes_version,
        kwok=kwok,
        api_port=api_port or next(ports),
        etcd_port=next(ports),
        etcd_peer_port=next(ports),
        ports_were_asked_for=api_port is not None,
    )


def port_is_free(port: int) -> bool:
    """Try to listen on a port of the loopback interface."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_port(port: int) -> None:
    """Refuse a port that is taken.

    Raises:
        ClusterError: it names the process that holds the port.
    """
    if not port_is_free(port):
        raise ClusterError(
            f"Port {port} is in use by {holder_of_port(port)}: stop it, or choose another with --api-port."
        )


def free_ports(*, without: set[int]) -> Iterator[int]:
    """Give free ports, beginning anywhere, so that callers at the same time seldom meet."""
    start = random.randrange(len(PORTS))
    for offset in range(len(PORTS)):
        port = PORTS[(start + offset) % len(PORTS)]
        if port not in without and port_is_free(port):
            yield port


def _free_octet() -> int:
    taken = {plan.octet for plan in every_plan()}
    shown = subprocess.run(
        ["ip", "-json", "route", "show", "table", "all"], capture_output=True, text=True, check=False
    ).stdout
    routes = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in json.loads(shown or "[]")
        if ":" not in route["dst"] and route["dst"] not in {"default", "broadcast"}
    ]
    for octet in OCTETS:
        candidate = ipaddress.ip_network(Network(octet).whole)
        if octet not in taken and not any(candidate.overlaps(route) for route in routes):
            return octet
    raise ClusterError(
        f"No network is left among 10.{OCTETS.start}.0.0/16 to 10.{OCTETS.stop - 1}.0.0/16: "
        "see 'python -m tests.cluster status' and take some cluster down."
    )
