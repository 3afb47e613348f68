"""What may be chosen about a demo, read from the environment once."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import use_existing
from tests.cluster.processes import Daemon, command_of, holder_of_port

from .errors import DemoError
from .preflight import cache

ROOT = Path(__file__).parents[2]
NAMESPACE = "default"
EXAMPLE = Path("examples/smollm2.yaml")
RESOURCE = "smollm2"
SCALED_EXAMPLE = Path("examples/autoscaling.yaml")
SCALED_RESOURCE = "autoscaled"
MODEL_FOLDER = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The choices for one run."""

    name: str
    """Of the cluster, and of the folder of what belongs to this demo alone; tests have one of their own."""
    port: int
    existing_kubeconfig: Path | None
    """The cluster to use instead of one of our own."""
    acts: int = 2
    """1: up to the answer; 2: then load that rises and falls, and replicas that follow."""

    @property
    def folder(self) -> Path:
        """Where logs and what belongs to this demo alone are kept."""
        return cache() / self.name

    def log(self, name: str) -> Path:
        """Give the log of a step."""
        return self.folder / "log" / f"{name}.log"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the cluster that is used."""
        return self.existing_kubeconfig or cache() / "clusters" / self.name / "kubeconfig"

    @property
    def forwarder(self) -> Daemon:
        """The process that forwards the port; it outlives the demo, so that a person can go on asking."""
        return Daemon("port-forward", self.folder / "port-forward.json", self.log("port-forward"))

    def command(self, target: str) -> str:
        """Name the command that runs a make target on the same cluster."""
        if self.existing_kubeconfig:
            return f"SUNDOG_USE_EXISTING_CLUSTER=1 KUBECONFIG={self.existing_kubeconfig} make {target}"
        return f"make {target}"

    @property
    def forwarded(self) -> str:
        """What is forwarded to what, as kubectl is told."""
        return f"{self.port}:8000"

    @property
    def url(self) -> str:
        """Base URL of the API on this machine."""
        return f"http://127.0.0.1:{self.port}/v1"


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        DemoError: a setting cannot be used.
    """
    environment = os.environ if environment is None else environment
    return Settings(
        name=environment.get("SUNDOG_DEMO_NAME") or "demo",
        port=_port(environment.get("PORT") or "8000"),
        existing_kubeconfig=_kubeconfig(environment) if use_existing() else None,
        acts=_acts(environment.get("ACTS") or "2"),
    )


def require_port(settings: Settings) -> None:
    """Refuse a port that somebody else listens on.

    Raises:
        DemoError: it names who does, and how to choose another.
    """
    ours = settings.forwarder.pid  # from the run before
    if ours and settings.forwarded in command_of(ours).split():
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", settings.port))
        except PermissionError:
            raise DemoError(f"Port {settings.port} may only be used by root: choose another with PORT=8001.") from None
        except OSError:
            raise DemoError(
                f"Port {settings.port} is held by {holder_of_port(settings.port)}: end it, "
                f"or choose another port: make demo PORT={settings.port + 1}"
            ) from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise DemoError(f"PORT is {text!r}: give a number from 1 to 65535, for instance PORT=8001.")
    return int(text)


def _acts(text: str) -> int:
    if text not in {"1", "2"}:
        raise DemoError(f"ACTS is {text!r}: give 1 (up to the first answer) or 2 (then replicas that follow the load).")
    return int(text)


def _kubeconfig(environment: Mapping[str, str]) -> Path:
    path = Path(environment.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not path.is_file():
        raise DemoError(
            f"SUNDOG_USE_EXISTING_CLUSTER=1 asks for the cluster of a kubeconfig, and there is none at {path}: "
            "set KUBECONFIG to its file."
        )
    return path.absolute()
