"""What each test image is made of, and the key that changes with any of it."""

import hashlib
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import ImageError

ROOT = Path(__file__).parents[2]
BASE_DOCKERFILE = "tests/images/base/Dockerfile"

# numa and gomp: for the vLLM environment that tests mount into pods of the serving image; ps: for Ray and for people.
PACKAGES = ("python3", "python3-venv", "tini", "ca-certificates", "libnuma1", "libgomp1", "procps")
# 59 MB of what no container reads.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")

# Of all staged files. A layer is found again by the digest of what was copied, times included, and git keeps none.
STAGED_SECONDS = 315_532_800


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: its Dockerfile and what that copies, as paths in the repository."""

    name: str
    dockerfile: str
    sources: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """By which pods name the image."""
        return f"localhost/sundog-{self.name}:dev"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("operator", "operator/Dockerfile", ("operator/requirements.lock", "operator/sundog_operator")),
        Recipe(
            "serving",
            "serving/Dockerfile",
            ("serving/requirements.lock", "serving/install_missing.py", "serving/sundog_serving"),
        ),
        Recipe("router", "tests/images/router/Dockerfile"),
    )
}
TAGS = {name: recipe.tag for name, recipe in RECIPES.items()}


def suite() -> str:
    """Name the Debian release of this machine: tests mount a vLLM environment, made with its Python, into pods.

    Raises:
        ImageError: this machine is no Debian.
    """
    release = platform.freedesktop_os_release()
    if release["ID"] != "debian" or "VERSION_CODENAME" not in release:
        raise ImageError(
            "The test images are made from packages of this machine's own Debian release, and this machine is "
            f"{release['PRETTY_NAME']}: run the tests that need them on Debian."
        )
    return release["VERSION_CODENAME"]


def base_key(suite: str) -> str:
    """Give the key of the base image: a hash of all that goes into it."""
    parts = (suite, platform.machine(), *PACKAGES, *EXCLUDED, (ROOT / BASE_DOCKERFILE).read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def stage(recipe: Recipe, folder: Path, *, suite: str) -> str:
    """Copy what a Dockerfile needs into an empty folder, and give the key of that content on a Debian release.

    Engineers edit the sources while images are made of them: what is built must be what was hashed.
    """
    for copied in (recipe.dockerfile, *recipe.sources):
        source, target = ROOT / copied, folder / copied
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(source, target)
    digest = hashlib.sha256(f"{recipe.tag} on {base_key(suite)}".encode())
    for path in _tree(folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (STAGED_SECONDS, STAGED_SECONDS))
        digest.update(f"\n{path.relative_to(folder)}\n".encode())
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _tree(folder: Path) -> Iterable[Path]:
    return sorted(folder.rglob("*"), reverse=True)  # contents before their folder, whose time they would change
