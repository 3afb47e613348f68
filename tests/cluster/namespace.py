"""The namespaces in which a node lives.

Everything of the node, its API server included, runs in mount, network, pid,
UTS and IPC namespaces of its own, below one process. When that process dies,
the kernel ends every container and takes every mount, bridge and interface with
it: a crash leaves nothing behind. The host gets one veth end and one route.
"""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import waiting
from .errors import ClusterError
from .plan import Network
from .processes import Daemon, children

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}

# The node sees the host's files, but what its daemons write by habit to /etc, /run,
# /var/lib and /var/log goes to the cluster's own folder or is forgotten.
MOUNTS = """
set -e
mount --make-rshared /
hostname {node_name}
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sundog/var-lib /run/sundog/etc/upper /run/sundog/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/sundog/etc/upper,workdir=/run/sundog/etc/work overlay /etc
mount --rbind /var/lib /run/sundog/var-lib
mount -t tmpfs -o mode=755 tmpfs /var/lib
for entry in /run/sundog/var-lib/*; do
  place="/var/lib/${{entry##*/}}"
  if [ -L "$entry" ]; then cp -a "$entry" "$place"
  elif [ -d "$entry" ]; then mkdir "$place"; mount --rbind "$entry" "$place"
  else touch "$place"; mount --bind "$entry" "$place"; fi
done
mkdir -p /var/lib/kubelet /var/lib/containerd /var/lib/cni
mount --bind {folder}/kubelet /var/lib/kubelet
mount --bind {folder}/containerd /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/cni
mount --bind {folder}/log /var/log
"""

NETWORK = """
set -e
ip link set lo up
ip address add {node}/30 dev uplink
ip link set uplink up
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespaces of one node."""

    daemon: Daemon
    folder: Path
    node_name: str
    network: Network

    @property
    def ready(self) -> bool:
        """Whether it is alive and was furnished to the end."""
        return self._marker.exists() and self._marker.read_text() == str(self._init())

    def start(self, pause: Path) -> None:
        """Make the namespaces, their mounts and their way to the host; does nothing when they are ready."""
        if self.ready:
            return
        self.stop()
        for sub in ("kubelet", "containerd", "log"):
            (self.folder / sub).mkdir(parents=True, exist_ok=True)
        unshare = shutil.which("unshare", path=PATH) or "/usr/bin/unshare"
        flags = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        self.daemon.start([unshare, *flags, str(pause)], environment=ENVIRONMENT)
        if (
            not waiting.until(lambda: self._furnishable(pause) or not self.daemon.running, seconds=10)
            or not self.daemon.running
        ):
            raise ClusterError(f"The node's namespaces could not be made: {self.daemon.log.read_text().strip()[-300:]}")
        self.run("sh", "-c", MOUNTS.format(node_name=self.node_name, folder=shlex.quote(str(self.folder))))
        self._host(
            "link", "add", self.network.interface, "type", "veth", "peer", "name", "uplink", "netns", str(self._init())
        )
        self._host("address", "add", f"{self.network.host}/30", "dev", self.network.interface)
        self._host("link", "set", self.network.interface, "up")
        self.run("sh", "-c", NETWORK.format(node=self.network.node))
        self._host("route", "replace", self.network.whole, "via", self.network.node, "dev", self.network.interface)
        self._marker.write_text(str(self._init()))

    def stop(self) -> None:
        """End everything inside, and remove the host's end of the veth pair."""
        self._marker.unlink(missing_ok=True)
        self.daemon.kill()
        interface = Path("/sys/class/net") / self.network.interface
        if interface.exists():
            # It vanishes with the namespace anyhow, but only some time later.
            subprocess.run(
                ["ip", "link", "delete", self.network.interface], env=ENVIRONMENT, capture_output=True, check=False
            )
            waiting.until(lambda: not interface.exists(), seconds=10)

    def enter(self, command: Sequence[str]) -> list[str]:
        """Give the command line that runs a command inside."""
        nsenter = shutil.which("nsenter", path=PATH) or "/usr/bin/nsenter"
        return [nsenter, f"--target={self._init()}", "--mount", "--net", "--pid", "--uts", "--ipc", "--", *command]

    def run(self, *command: str) -> str:
        """Run a command inside to its end.

        Raises:
            ClusterError: it failed; the message quotes what it said.
        """
        done = subprocess.run(self.enter(command), env=ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode:
            what = command[0] if len(command) < 3 or command[0] != "sh" else "furnishing"
            raise ClusterError(
                f"{what} failed in the node {self.node_name}: {(done.stderr or done.stdout).strip()[-400:]}"
            )
        return done.stdout

    @property
    def _marker(self) -> Path:
        return self.daemon.record.with_suffix(".furnished")

    def _init(self) -> int | None:
        leader = self.daemon.pid
        return next(iter(children(leader)), None) if leader else None

    def _furnishable(self, pause: Path) -> bool:
        # unshare mounts /proc and then becomes the pause program: before that, it is too early.
        init = self._init()
        try:
            return init is not None and Path(f"/proc/{init}/exe").readlink() == pause.resolve()
        except OSError:
            return False

    def _host(self, *arguments: str) -> None:
        done = subprocess.run(["ip", *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"'ip {' '.join(arguments)}' failed on the host: {done.stderr.strip()}")
