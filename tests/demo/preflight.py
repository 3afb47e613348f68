"""What is missing on this machine, told before anything long begins.

Only the standard library may be imported here: it runs before there is a Python environment.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

COMPONENTS = Path(__file__).parents[1] / "cluster" / "components"
# Gigabytes, measured: what is in the cache already needs no more room.
ROOM = {"vllm": 8.0, "bin": 6.0, "images": 4.0}
ROOM_FOR_STATE = 2.0
# Control plane 1.3, Ray head 1.1, replica with its engine 2; then a second head and two replicas without a model, 2;
# the rest for what starts them.
MEMORY = 7.0


def cache() -> Path:
    """Sundog's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sundog"


def missing(command: str) -> Iterator[str]:
    """Give one sentence, with cause and cure, for each thing that is missing.

    Args:
        command: what the person ran, to be named in the cure.
    """
    if sys.platform != "linux":
        yield f"{command} starts a real kubelet and containerd, which need Linux (this is {sys.platform})."
        return
    if os.geteuid() != 0:
        yield (
            f"{command} starts a real kubelet and containerd and so needs root: run it as root, "
            "or use a cluster that you have (SUNDOG_USE_EXISTING_CLUSTER=1 and KUBECONFIG)."
        )
    else:
        yield from _disk()  # an ordinary user's cache is another one than root's
    yield from _go()
    yield from _memory()


def required_go() -> str:
    """Read from go.mod which Go builds the cluster's components."""
    return next(line.split()[1] for line in (COMPONENTS / "go.mod").read_text().splitlines() if line.startswith("go "))


def _go() -> Iterator[str]:
    wanted = f"Kubernetes is built from source with Go {required_go()} or newer"
    go = shutil.which("go")
    if go is None:
        yield f"Go is not installed: {wanted}. Install it and put its bin folder into PATH."
        return
    # Asked where go.mod stands: a Go that fetches the newer toolchain by itself is as good as a new one.
    asked = subprocess.run([go, "env", "GOVERSION"], cwd=COMPONENTS, capture_output=True, text=True, check=False)
    if asked.returncode:
        shown = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout.split()
        found = shown[2] if len(shown) > 2 else "unknown version"
        yield f"Go is too old ({found} at {go}): {wanted}. Install it and put its bin folder first in PATH."


def _disk() -> Iterator[str]:
    place = cache()
    needed = ROOM_FOR_STATE + sum(size for part, size in ROOM.items() if not _filled(place / part))
    standing = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(standing).free / 1e9
    if free < needed:
        yield (
            f"{needed:.0f} GB of disk are needed below {place}, and {free:.1f} GB are free: "
            "make room, or set XDG_CACHE_HOME to a folder on a larger disk."
        )


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())


def _memory() -> Iterator[str]:
    if any((cache() / "clusters").glob("*/cluster.json")):
        return  # a cluster of ours may be what holds the memory
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1e6
    if free < MEMORY:
        yield (
            f"{MEMORY:.0f} GB of memory are needed for a Kubernetes with a model in it, and {free:.1f} GB are free: "
            "end something large, or take a larger machine."
        )


def main() -> int:
    """Print what is missing.

    Returns:
        0, or 1 when something is.
    """
    sentences = list(missing(sys.argv[1] if len(sys.argv) > 1 else "make demo"))
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
