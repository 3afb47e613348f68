"""A store of things that are costly to make: keyed by what went into them, made once, never half there.

A thing is made under a temporary name and renamed into place, so an interrupted making leaves nothing that looks
finished. A file lock keeps two makers of the same kind apart; what a killed maker left behind is swept by the next one.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

# Rich draws on a terminal and prints plain lines elsewhere (CI); stderr, because stdout carries the path for scripts.
console = Console(stderr=True, highlight=False, soft_wrap=True)

_BUILDING = ".building-"


class NotMadeError(Exception):
    """Something could not be made; the message says what happened and what to do."""


def cache_root() -> Path:
    """Return Sundog's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sundog"


def key(*inputs: str) -> str:
    """Return a short name for what goes into a thing: the same inputs give the same key."""
    digest = hashlib.sha256()
    for text in inputs:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:12]


def made(what: str, place: Path, *, needs_bytes: int, make: Callable[[Path], None]) -> Path:
    """Return ``place``, having it made first where it is not there yet.

    Args:
        what: How to call it in messages, such as ``vLLM environment``.
        place: The finished folder. Its name is the key; its siblings are older keys and are removed once it is there.
        needs_bytes: Free disk space without which the making is not started.
        make: Fills the folder that it is given. It may raise anything; nothing is left in the way of the next attempt.

    Raises:
        NotMadeError: The disk has no room.
    """
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(what, place.parent / ".lock"):
        if place.is_dir():  # another process made it while this one waited
            return place
        _sweep(place.parent, keep=lambda name: not name.startswith(_BUILDING))
        _check_room(what, place.parent, needs_bytes=needs_bytes)
        building = place.parent / f"{_BUILDING}{place.name}"
        began = time.monotonic()
        console.print(f"making the {what} in {place}")
        try:
            make(building)
            building.rename(place)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        _sweep(place.parent, keep=lambda name: name == place.name)
        console.print(f"made the {what} in {time.monotonic() - began:.0f} s")
    return place


@contextmanager
def _lock(what: str, path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"another process is making the {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file ends the lock, also when this process is killed


def _sweep(folder: Path, *, keep: Callable[[str], bool]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not keep(entry.name):
            shutil.rmtree(entry)


def _check_room(what: str, folder: Path, *, needs_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needs_bytes:
        raise NotMadeError(
            f"the {what} needs {needs_bytes / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free: "
            "make room, or set XDG_CACHE_HOME to a folder on a larger disk"
        )
