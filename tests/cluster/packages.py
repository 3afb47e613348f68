"""The Debian packages that are needed, and installing them."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import folders
from .errors import ClusterError
from .plan import Level
from .progress import Progress

# Package, and a file that shows it is there: commands of other distributions count too.
CONTROL_PLANE = {"openssl": "openssl"}
NODE = {
    **CONTROL_PLANE,
    "iproute2": "ip",
    "util-linux": "unshare",
    "mount": "mount",
    "kmod": "modprobe",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "nftables": "nft",
    "conntrack": "conntrack",
}
# What building and running Sundog's own images takes.
IMAGES = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "haproxy": "haproxy",
    "tini": "tini",
    "fuse-overlayfs": "fuse-overlayfs",
}
# What the operator's page is looked at with: 400 MB, so apart from the rest.
BROWSER = {"chromium": "chromium", "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"}
OF_LEVEL = {Level.CONTROL_PLANE: CONTROL_PLANE, Level.NODE: NODE}
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing(wanted: Mapping[str, str]) -> list[str]:
    """List the packages of which the telling file is not there."""
    path = f"{os.environ.get('PATH', '')}:{SEARCH}"
    return [
        package for package, file in wanted.items() if not shutil.which(file, path=path) and not Path(file).exists()
    ]


def require(level: Level) -> None:
    """Refuse a level for which packages are missing.

    Raises:
        ClusterError: it names them.
    """
    if lacking := missing(OF_LEVEL[level]):
        raise ClusterError(
            f"Level {level} needs Debian packages that are missing: {' '.join(lacking)}; "
            "install them with 'python -m tests.cluster packages' as root."
        )


def install(progress: Progress, wanted: Mapping[str, str]) -> list[str]:
    """Install what is missing with apt-get, and tell what was.

    Raises:
        ClusterError: not root, no apt-get, or apt-get failed.
    """
    lacking = missing(wanted)
    if not lacking:
        return []
    names = " ".join(lacking)
    if os.geteuid() != 0:
        raise ClusterError(f"Installing packages needs root; missing are: {names}.")
    if not shutil.which("apt-get"):
        raise ClusterError(f"There is no apt-get here; install these by the means of this system: {names}.")
    with progress.task(f"Installing {names}") as task:
        task.update(detail="apt-get update")
        _apt_get(["update"])
        task.update(detail="apt-get install")
        _apt_get(["install", "--yes", "--no-install-recommends", *lacking])
    if still := missing(wanted):
        raise ClusterError(f"apt-get succeeded, and yet these are missing: {' '.join(still)}.")
    return lacking


def unpacked(package: str) -> Path:
    """Give the folder of a Debian package's files, in the cache and not in the system.

    For a program out of a package that brings a daemon: installed, it would start, and go on running after the tests.

    Raises:
        ClusterError: it could not be downloaded or unpacked.
    """
    folder = folders.cache() / "packages" / package
    with folders.locked(folder.with_name(f"{package}.lock")):
        if folder.exists():
            return folder
        unfinished = folder.with_name(f".{package}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            _apt_get(["download", package], folder=unfinished)
        except ClusterError:
            _apt_get(["update"])  # the lists may be old, or none
            _apt_get(["download", package], folder=unfinished)
        (archive,) = unfinished.glob("*.deb")
        done = subprocess.run(
            ["dpkg-deb", "--extract", archive, unfinished], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ClusterError(f"Package {package} cannot be unpacked: {done.stderr.strip()}")
        archive.unlink()
        unfinished.rename(folder)
    return folder


def _apt_get(arguments: Sequence[str], *, folder: Path | None = None) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", "--option=DPkg::Lock::Timeout=600", *arguments],
        cwd=folder,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise ClusterError(f"apt-get {arguments[0]} failed: {said[-1] if said else 'it says nothing'}")
