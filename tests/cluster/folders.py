"""Where things are kept: everything under one cache folder, which may be deleted."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ClusterError

COMPONENTS = Path(__file__).parent / "components"


def cache() -> Path:
    """The folder of all that is kept: ``$XDG_CACHE_HOME/sundog``, or ``~/.cache/sundog``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "sundog"


def binaries() -> Path:
    """The folder of built programs, one sub-folder per hash of what they were built from."""
    return cache() / "bin"


def clusters() -> Path:
    """The folder of clusters, one sub-folder each."""
    return cache() / "clusters"


@contextmanager
def locked(lock: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock file for the block; call ``waiting`` once when somebody else holds it.

    The kernel drops the lock when its holder dies, so none is ever stale.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, and only when it changes: kube-proxy ends when its settings are touched."""
    if path.exists() and path.read_text() == text:
        return
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.touch(mode=mode)
    unfinished.write_text(text)
    unfinished.rename(path)


def require_space(folder: Path, *, gibibytes: float, purpose: str) -> None:
    """Refuse when the file system of ``folder`` has too little room for ``purpose``.

    Raises:
        ClusterError: it says how much is needed, how much is free, and where.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    if free < gibibytes:
        raise ClusterError(
            f"{purpose} needs {gibibytes:g} GiB free in {folder}, and there are {free:.1f} GiB: "
            "free some space, or set XDG_CACHE_HOME to a folder on a larger disk."
        )
