"""``make test``: all tests, two stages at a time, while what the dear ones need is built in the background.

Each stage is a make target of the same name and can be run alone. The fast stage comes first, by itself: when it fails,
nothing else is begun. A later stage that fails keeps none of the others from running.
"""

import asyncio
import os
import subprocess
import sys
import time
from asyncio import Event
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from tests.demo.board import Board, elapsed
from tests.demo.errors import DemoError
from tests.demo.parts import PREPARED, make
from tests.demo.preflight import cache

FOLDER = cache() / "test"
LONGEST_LINE = 2**24
LAST_LINES = 40


@dataclass(frozen=True, slots=True)
class Stage:
    """A make target that runs tests, and the parts that must be there before."""

    target: str
    needs: tuple[str, ...] = ()
    niceness: int = 10
    """As `nice` has it: what the others leave of the processors is enough."""


STAGES = (
    Stage("test-fast", niceness=0),
    # The longest first, as soon as what they need is there, and before all others at the processors.
    Stage("test-e2e", needs=("programs", "model", "images"), niceness=0),
    Stage("test-patient", needs=("programs", "checkers")),
    Stage("test-apiserver", needs=("programs",)),
    Stage("test-node", needs=("programs", "model", "images")),
    Stage("test-vllm", needs=("environment",)),
    Stage("test-ray"),
    Stage("test-local", needs=("packages", "browser", "programs", "checkers")),
)
AT_ONCE = 2
"""Stages side by side: one for each of two processors. With three, Ray's processes keep each other from
starting."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage went."""

    target: str
    word: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    last_lines: tuple[str, ...] = ()
    """Of its output, when it failed: the reason is not to be looked for among the lines of the others."""


async def run(stages: Sequence[Stage]) -> list[Outcome]:
    """Run the first stage, then the others, and what they need beside them."""
    made = {name: Event() for name in PREPARED}
    wanted = dict.fromkeys(name for stage in stages for name in stage.needs)
    first, *others = stages
    places = asyncio.Semaphore(AT_ONCE)
    async with Board(bars=False) as board:
        building = asyncio.create_task(
            make(board, PREPARED, wanted, logs=FOLDER / "log", made=lambda name: made[name].set())
        )

        async def one(stage: Stage) -> Outcome:
            if missing := await _missing(stage, made, building):
                return Outcome(stage.target, f"not run: {missing}")
            async with places:
                return await _run(stage)

        try:
            begun = await one(first)
            if begun.word != "passed":
                return [begun, *(Outcome(stage.target, f"not run: {first.target} failed") for stage in others)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(stage)) for stage in others]
            return [begun, *(task.result() for task in tasks)]
        finally:
            building.cancel()
            with suppress(asyncio.CancelledError, DemoError):
                await building


async def _missing(stage: Stage, made: dict[str, Event], building: asyncio.Task[None]) -> str:
    """Wait for what a stage needs; give the reason when it will never be there."""
    for name in stage.needs:
        if made[name].is_set():
            continue  # at once, so that places are taken in the order of the stages
        waiting = asyncio.create_task(made[name].wait())
        await asyncio.wait({waiting, building}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not made[name].is_set():
            error = building.exception()
            print(f"error: {error}", file=sys.stderr, flush=True)
            return str(error).splitlines()[0]
    return ""


async def _run(stage: Stage) -> Outcome:
    report = FOLDER / f"{stage.target}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    began = time.monotonic()
    # An own make of each: neither its jobs nor its flags are to mix with those of the make that started this.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    }
    process = await asyncio.create_subprocess_exec(
        "nice",
        f"--adjustment={stage.niceness}",
        "make",
        "--no-print-directory",
        stage.target,
        env={**environment, "PYTEST_ADDOPTS": f"--junitxml={report}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        limit=LONGEST_LINE,
    )
    assert process.stdout
    last_lines: deque[str] = deque(maxlen=LAST_LINES)
    try:
        async for line in process.stdout:
            last_lines.append(line.decode(errors="replace").rstrip())
            print(f"{stage.target:<14} │ {last_lines[-1]}", flush=True)
        code = await process.wait()
    except asyncio.CancelledError:
        await process.communicate()  # Ctrl-C reached it as well
        raise
    counted = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    if report.exists():
        for suite in ET.parse(report).getroot().iter("testsuite"):
            counted = {key: counted[key] + int(suite.get(key, "0")) for key in counted}
    failed = counted["failures"] + counted["errors"]
    return Outcome(
        stage.target,
        "failed" if code else "passed",
        time.monotonic() - began,
        passed=counted["tests"] - failed - counted["skipped"],
        failed=failed,
        skipped=counted["skipped"],
        last_lines=tuple(last_lines) if code else (),
    )


def main() -> int:
    """Run the stages named on the command line, or all.

    Returns:
        0 when all passed, 1 when not, 130 after Ctrl-C.
    """
    began = time.monotonic()
    named = sys.argv[1:]
    try:
        outcomes = asyncio.run(run([stage for stage in STAGES if stage.target in named or not named]))
    except KeyboardInterrupt:
        return 130
    print()
    for one in outcomes:
        for line in one.last_lines:
            print(f"{one.target:<14} │ {line}")
    for one in outcomes:
        print(f"{one.target:<16} {elapsed(one.seconds):>12}  {one.word}")
    passed, failed, skipped = (sum(getattr(one, key) for one in outcomes) for key in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped in {elapsed(time.monotonic() - began)}")
    return 0 if all(one.word == "passed" for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
