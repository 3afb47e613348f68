"""Showing what is under way: live bars on a terminal, plain lines with seconds everywhere else."""

import asyncio
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

# A log that says nothing for longer than this looks like a log of something stuck.
QUIET_SECONDS = 20.0
# Cursor movements and colours, which have no meaning in one line of detail.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR_WIDTH = 20
COUNTED = re.compile(r"\b(\d+)/(\d+)\b")


def elapsed(seconds: float) -> str:
    """Give a duration as people say it: ``8 s``, ``2 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@dataclass(slots=True)
class Step:
    """One thing under way."""

    title: str
    started: float = field(default_factory=time.monotonic)
    detail: str = ""
    done: int | None = None
    total: int | None = None

    def tell(self, line: str) -> None:
        """Take a line of output as the present detail; ``120/1900`` in it moves the bar."""
        self.detail = ESCAPES.sub("", line).strip()
        if (counted := COUNTED.search(self.detail)) and int(counted[2]) > 0:
            self.done, self.total = int(counted[1]), int(counted[2])

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started


class Board:
    """All steps of one run; an async context manager that shows them while it is open."""

    def __init__(self, console: Console | None = None, *, bars: bool = True) -> None:
        self.console = console or Console(highlight=False)
        self._live = bars and self.console.is_terminal and not os.environ.get("CI")
        self._started = time.monotonic()
        self._running: list[Step] = []
        self._display: Live | None = None
        self._teller: asyncio.Task[None] | None = None
        self._spinner = Spinner("dots")

    async def __aenter__(self) -> Self:
        if self._live:
            self._display = Live(
                get_renderable=lambda: self, console=self.console, transient=True, refresh_per_second=8
            )
            self._display.start()
        else:
            self._teller = asyncio.create_task(self._tell_now_and_then())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop showing; the terminal belongs to what is printed next."""
        if self._display:
            self._display.stop()
            self._display = None
        if self._teller:
            self._teller.cancel()
            self._teller = None

    @property
    def seconds(self) -> float:
        """How long the whole run has taken so far."""
        return time.monotonic() - self._started

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line that stays."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step until the block ends, then leave one line with its time behind."""
        step = Step(title)
        self._running.append(step)
        if not self._live:
            self._line(f"{title} ...")
        try:
            yield step
        except asyncio.CancelledError:
            raise  # it neither ended nor failed: somebody else did
        except BaseException:
            self._finished(step, mark="✗", style="red", word="failed after")
            raise
        else:
            self._finished(step, mark="✓", style="green", word="done in")
        finally:
            self._running.remove(step)

    def _finished(self, step: Step, *, mark: str, style: str, word: str) -> None:
        if not self._live:
            self._line(f"{step.title}: {word} {elapsed(step.seconds)}")
            return
        line = Text.assemble((f"{mark} ", style), f"{step.title:<58} ", (f"{elapsed(step.seconds):>12}", "dim"))
        self.console.print(line, soft_wrap=True)

    def _line(self, text: str) -> None:
        self.say(f"[{self.seconds:4.0f} s] {text}")

    async def _tell_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(QUIET_SECONDS)
            for step in self._running:
                detail = f"; {step.detail}" if step.detail else ""
                self._line(f"{step.title}: {elapsed(step.seconds)} so far{detail}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the steps under way."""
        steps = list(self._running)
        counted = any(step.total for step in steps)
        table = Table.grid(padding=(0, 1), expand=True)
        # Detail gives way on a narrow terminal, nothing else does.
        table.add_column(width=1)
        table.add_column(no_wrap=True, min_width=max((len(step.title) for step in steps), default=0))
        table.add_column(width=BAR_WIDTH if counted else 0)
        table.add_column(no_wrap=True, justify="right", min_width=len("10 min 00 s"))
        table.add_column(no_wrap=True, ratio=1)
        for step in steps:
            bar = ProgressBar(total=step.total or 1, completed=step.done or 0) if step.total else Text("")
            spent = Text(elapsed(step.seconds), style="dim")
            detail = Text(step.detail, style="dim", overflow="ellipsis", no_wrap=True)
            table.add_row(self._spinner, step.title, bar, spent, detail)
        yield table
        total = elapsed(self.seconds)
        yield Text(f"  {total} in all; Ctrl-C stops it, and the same command goes on from there", style="dim")
