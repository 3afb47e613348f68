"""What has to be made before anything can be shown, what needs what, and making it side by side.

Each part does nothing when its work is done already, and may be interrupted at any point.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import jobs
from .board import Board, Step
from .errors import DemoError
from .preflight import cache

PYTHON = sys.executable
# One at a time: dpkg refuses a second at once, and two stages of the tests begin together. A dpkg that was interrupted
# refuses everything until it is told to finish. Debian's own interpreter is the one of the vLLM environment, also where
# another python3 stands in front of it in PATH.
_PACKAGES = """
export DEBIAN_FRONTEND=noninteractive
folder=$1 && shift
if command -v apt-get >/dev/null; then
    mkdir -p "$folder" && exec 9>"$folder/packages.lock" && flock 9 || exit
    test -z "$(dpkg --audit)" || dpkg --configure -a || exit
    test -x /usr/bin/python3 || { apt-get -qq update && apt-get -qq install --yes python3; } || exit
fi
exec "$0" -m tests.cluster packages "$@"
"""

Work = Callable[[Step, Path], Awaitable[object]]
"""Makes a part, or finds it made; it is given the step to tell, and the log to write."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something to be made."""

    title: str
    make: Work
    needs: tuple[str, ...] = ()
    """Names of the parts that must be there before."""


def command(*words: str) -> Work:
    """Make a part by a command."""

    async def make(step: Step, log: Path) -> None:
        await jobs.run(step, words, log=log)

    return make


PREPARED: dict[str, Part] = {
    "packages": Part("Debian packages", command("sh", "-c", _PACKAGES, PYTHON, str(cache()))),
    "browser": Part(
        "Chromium, for the operator's page (400 MB)",
        command("sh", "-c", _PACKAGES, PYTHON, str(cache()), "--browser"),
    ),
    "programs": Part(
        "Kubernetes, containerd and Helm, from source",
        command(PYTHON, "-m", "tests.demo.programs"),
        needs=("packages",),
    ),
    "checkers": Part(
        "Helm 3, and what looks at manifests",
        command(PYTHON, "-m", "tests.chart.checkers"),
        needs=("programs",),
    ),
    "environment": Part(
        "vLLM for CPUs (6.5 GB)",
        command(PYTHON, "-m", "tests.models", "environment"),
        needs=("packages",),
    ),
    "model": Part(
        "SmolLM2-135M-Instruct",
        command(PYTHON, "-m", "tests.models", "smollm2"),
        needs=("environment",),
    ),
    "images": Part(
        "Images of operator, router and serving",
        command(PYTHON, "-m", "tests.images", "build"),
        needs=("packages",),
    ),
}


def nobody(_: str) -> None:
    """Be told of a part and do nothing."""


async def make(
    board: Board,
    parts: Mapping[str, Part],
    wanted: Iterable[str],
    *,
    logs: Path,
    made: Callable[[str], None] = nobody,
) -> None:
    """Make parts and all that they need, side by side as far as their needs allow.

    The first failure ends the others: what they have finished so far is kept by their own caches.

    Args:
        board: where they are shown.
        parts: all parts that there are, by name.
        wanted: names of those to make.
        logs: the folder of their logs.
        made: told the name of each part once it is there.

    Raises:
        DemoError: a part failed.
    """
    under_way: dict[str, asyncio.Task[None]] = {}

    async def one(name: str) -> None:
        part = parts[name]
        await asyncio.gather(*(under_way[need] for need in part.needs))
        with board.step(part.title) as step:
            await part.make(step, logs / f"{name}.log")
        made(name)

    try:
        async with asyncio.TaskGroup() as group:
            for name in in_order(parts, wanted):
                under_way[name] = group.create_task(one(name))
    except* DemoError as failures:
        raise failures.exceptions[0] from None


def in_order(parts: Mapping[str, Part], wanted: Iterable[str]) -> list[str]:
    """List parts and all that they need, each after its needs."""
    found: list[str] = []
    for name in wanted:
        found += [one for one in (*in_order(parts, parts[name].needs), name) if one not in found]
    return found
