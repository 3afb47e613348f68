"""Running a command beside others: output into a log, its last line onto the board, an orderly end on Ctrl-C."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .board import ESCAPES, Step
from .errors import DemoError

POLL_SECONDS = 0.25
# A command that was interrupted puts away what is half-made; this is how long it may take over it.
GRACE_SECONDS = 15.0
# What a shell runs in the background ignores the signal of Ctrl-C, and so would its children.
HEARS_INTERRUPT = ("env", "--default-signal=INT")


async def run(
    step: Step,
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command to its end, the last line of its output being the detail of a step.

    It gets a session of its own, so that Ctrl-C reaches it once, from here, and its children with it.

    Args:
        step: where it is shown.
        command: program and arguments.
        log: where all its output goes; what stood there is replaced.
        environment: added to this process' own.

    Raises:
        DemoError: the command failed; the last line that it called an error, or else its last line, is the reason.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *HEARS_INTERRUPT,
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    follower = asyncio.create_task(_follow(log, step))
    try:
        code = await process.wait()
    finally:
        follower.cancel()
        await asyncio.shield(_end(process))
    if code:
        raise DemoError(f"{step.title} failed: {_reason(log) or f'exit code {code}'}\n  All of its output: {log}")


def last_line(log: Path) -> str:
    """Give the last line of a log that is not empty, as a person would see it."""
    return next(_last_lines(log), "")


def _last_lines(log: Path) -> Iterator[str]:
    """Go backwards through the end of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        text = file.read().decode(errors="replace")
    lines = (ESCAPES.sub("", line).strip() for line in reversed(text.replace("\r", "\n").splitlines()))
    return (line for line in lines if line)


def _reason(log: Path) -> str:
    errors = (line for line in _last_lines(log) if line.lower().startswith("error:"))
    return next(errors, last_line(log)).removeprefix("error:").removeprefix("Error:").strip()


async def _follow(log: Path, step: Step) -> None:
    while True:
        if line := last_line(log):
            step.tell(line)
        await asyncio.sleep(POLL_SECONDS)


async def _end(process: Process) -> None:
    """End the process' whole group: as Ctrl-C would, then by force."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE_SECONDS)
