"""What is written to the terminal, and how a picture that changes is kept up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from sundog_cli.manifests import as_json, as_yaml
from sundog_cli.report import Report
from sundog_cli.tree import trees

POLL_SECONDS: Final = 1.0
_WIDTH_OF_A_FILE: Final = 1000
"""Where there is no terminal: a sentence stays on its line, and can be searched for."""


def console(*, beside: bool = False) -> Console:
    """For what was asked for, on the standard output; or for what is told beside it, on the standard error."""
    found = Console(stderr=beside, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not found.is_terminal:
        found.width = _WIDTH_OF_A_FILE
    return found


def tell(text: str) -> None:
    """Say something beside what was asked for."""
    console(beside=True).print(text)


def write(value: Any, output: str) -> None:
    """Write values for programs."""
    text = as_json(value) if output == "json" else as_yaml(value)
    console().file.write(text)


async def reports_as_they_change(read: Callable[[], Awaitable[list[Report]]]) -> AsyncIterator[list[Report]]:
    """Give reports again and again, a moment apart."""
    while True:
        yield await read()
        await asyncio.sleep(POLL_SECONDS)


async def show(
    read: Callable[[], Awaitable[list[Report]]],
    screen: Console,
    *,
    until: Callable[[list[Report]], bool],
    seconds: float | None = None,
) -> list[Report]:
    """Show reports until they are as wanted, or time is up; where there is no terminal, a line for each change.

    Returns:
        The last ones.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    if screen.is_terminal:
        # Live has to know how many lines it takes: what rich does not wrap it cuts, and that is the cure most of all.
        screen.soft_wrap = False
    with Live(console=screen, auto_refresh=False, vertical_overflow="visible") as live:
        before = ""
        async for found in reports_as_they_change(read):
            if screen.is_terminal:
                live.update(trees(found, now=time.time()), refresh=True)
            elif (line := "\n".join(map(_line, found))) != before:
                before = line
                screen.print(line)
            if until(found) or (deadline is not None and time.monotonic() > deadline):
                return found
    raise AssertionError("reports never end by themselves")


def _line(report: Report) -> str:
    ready = f"{report.ready_replicas} of {report.wanted} replicas ready"
    return f"{report.namespace}/{report.name}: {ready}, {report.reason}: {report.message}"
