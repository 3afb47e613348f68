"""The control groups below which kubelet puts a cluster's pods."""

from contextlib import suppress
from pathlib import Path

from . import waiting

ROOT = Path("/sys/fs/cgroup")


def _hierarchies() -> list[Path]:
    """List the mounted hierarchies: one in version 2, one per controller in version 1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [
        path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").exists()
    ]


def group(cluster: str) -> str:
    """Name the group of a cluster, as kubelet's ``cgroupRoot`` wants it."""
    return f"/sundog-{cluster}"


def make(cluster: str) -> None:
    """Make the cluster's group: kubelet refuses a root that does not exist."""
    for hierarchy in _hierarchies():
        made = hierarchy / group(cluster)[1:]
        made.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # In version 1 a new group has no processor at all until it is given some.
            inherited = hierarchy / setting
            if inherited.exists() and (made / setting).exists() and not (made / setting).read_text().strip():
                (made / setting).write_text(inherited.read_text())


def remove(cluster: str) -> bool:
    """Remove the cluster's groups once their processes are gone, and tell whether nothing is left."""

    def gone() -> bool:
        left = False
        for hierarchy in _hierarchies():
            top = hierarchy / group(cluster)[1:]
            if top.exists():
                for path in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
                    with suppress(OSError):
                        path.rmdir()
                with suppress(OSError):
                    top.rmdir()
                left = left or top.exists()
        return not left

    return waiting.until(gone, seconds=10)
