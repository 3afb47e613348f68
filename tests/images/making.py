"""Making the test images, and keeping them.

In ``<cache>/images``: ``store`` (buildah's layers, which make the next build quick), ``<name>-<key>/sundog-<name>.tar``
(what clusters import; the key is a hash of all that goes into it), ``lock``. It may be deleted while nothing builds.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import folders
from tests.cluster.progress import Progress, Task, default_progress

from . import recipes
from .buildah import Buildah
from .errors import ImageError
from .recipes import RECIPES, Recipe

# Store 1.6, archives 1.2 and what is written meanwhile, measured.
BUILD_GIBIBYTES = 4.0
# Another checkout may be about to import the one before.
KEPT_ARCHIVES = 3
LEFTOVER_SECONDS = 86_400.0
TOOLS = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "unshare": "util-linux"}


def images(progress: Progress | None = None, *, names: Iterable[str] = tuple(RECIPES)) -> dict[str, Path]:
    """Make the images that are not made yet.

    Args:
        progress: where to tell how far it is; by default a bar or lines on standard error.
        names: of ``operator``, ``serving``, ``router``; all by default.

    Returns:
        For each name an archive as ``docker save`` writes it; the tags are in :data:`tests.images.TAGS`.

    Raises:
        ImageError: a program is missing, this is not root or not Debian, or a build failed.
        ClusterError: the disk is too full.
    """
    progress = progress or default_progress()
    suite = recipes.suite()
    wanted = {name: RECIPES[name] for name in names}
    root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staged-", dir=root()) as staged:
        contexts = {name: Path(staged) / name for name in wanted}
        archives = {name: _archive(recipe, contexts[name], suite=suite) for name, recipe in wanted.items()}
        if not all(path.exists() for path in archives.values()):
            _require()
            with _locked(waiting=lambda: progress.say("Other images are being built: waiting for them.")) as lock:
                missing = [name for name, path in archives.items() if not path.exists()]
                if missing:
                    buildah = _store(lock, suite=suite, progress=progress)
                    for name in missing:
                        with progress.task(f"Building {wanted[name].tag}") as task:
                            base = _base_tag(suite)
                            _make(wanted[name], contexts[name], archives[name], base=base, buildah=buildah, task=task)
                    _tidy(buildah)
    for path in archives.values():
        os.utime(path.parent)  # when it was used last decides what is removed
    return archives


def root() -> Path:
    """The folder of all that this package keeps."""
    return folders.cache() / "images"


def _archive(recipe: Recipe, context: Path, *, suite: str) -> Path:
    key = recipes.stage(recipe, context, suite=suite)
    return root() / f"{recipe.name}-{key}" / f"sundog-{recipe.name}.tar"


def _require() -> None:
    if os.geteuid() != 0:
        raise ImageError("Building images needs root, for mmdebstrap's chroot and buildah's mounts: run it as root.")
    if missing := [program for program in TOOLS if not shutil.which(program)]:
        packages = " ".join(TOOLS[program] for program in missing)
        raise ImageError(f"Building images needs {', '.join(missing)}: apt-get install {packages}")
    folders.require_space(root(), gibibytes=BUILD_GIBIBYTES, purpose="Building images")


@contextmanager
def _locked(*, waiting: Callable[[], None]) -> Iterator[int]:
    with (root() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _base_tag(suite: str) -> str:
    return f"localhost/sundog-base:{recipes.base_key(suite)}"


def _store(lock: int, *, suite: str, progress: Progress) -> Buildah:
    """Open the store and see that the base image is in it."""
    folder = root() / "store"
    tag = _base_tag(suite)
    buildah = Buildah(folder, lock)
    if buildah.has(tag):
        return buildah
    # All layers stand on the base: with another one, none is of use any more.
    shutil.rmtree(folder)
    buildah = Buildah(folder, lock)
    with (
        progress.task(f"Making the base image from packages of Debian {suite}") as task,
        tempfile.TemporaryDirectory(prefix=".base-", dir=root()) as context,
    ):
        task.update(detail="mmdebstrap")
        _mmdebstrap(suite, Path(context) / "root.tar", lock=lock)
        shutil.copyfile(recipes.ROOT / recipes.BASE_DOCKERFILE, Path(context) / "Dockerfile")
        buildah.build(Path(context) / "Dockerfile", context=Path(context), tag=tag, base=None, task=task)
    return buildah


def _mmdebstrap(suite: str, tarball: Path, *, lock: int) -> None:
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(recipes.PACKAGES)}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipes.EXCLUDED),
        # Of this machine; a pod gets its own.
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
        *(suite, str(tarball)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=[lock])
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise ImageError(f"mmdebstrap of {suite} failed: {said[0] if said else 'it says nothing'}")


def _make(recipe: Recipe, context: Path, archive: Path, *, base: str, buildah: Buildah, task: Task) -> None:
    """Build an image and export it; an export that is interrupted leaves nothing half-made in its place."""
    buildah.build(context / recipe.dockerfile, context=context, tag=recipe.tag, base=base, task=task)
    task.update(detail="writing the archive")
    archive.parent.mkdir(exist_ok=True)
    unfinished = archive.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    buildah.export(recipe.tag, unfinished)
    unfinished.rename(archive)


def _tidy(buildah: Buildah) -> None:
    """Remove layers and archives that are not used any more, and what killed processes left long ago."""
    buildah.prune()
    for name in RECIPES:
        kept = sorted(root().glob(f"{name}-*/"), key=lambda folder: folder.stat().st_mtime)
        for old in kept[:-KEPT_ARCHIVES]:
            shutil.rmtree(old)
    for leftover in root().glob(".*-*/"):
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)
