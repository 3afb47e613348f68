"""Saying what takes time: bars on a terminal, plain lines in a log."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

# A log that says nothing for longer than this looks like a log of something stuck.
QUIET_SECONDS = 15.0


class Task(Protocol):
    """One thing under way."""

    def update(self, *, done: int | None = None, total: int | None = None, detail: str | None = None) -> None:
        """Tell how far it is: ``done`` of ``total`` units, and what is at hand."""


class Progress(Protocol):
    """Where a caller wants to be told what is under way."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    @contextmanager
    def task(self, text: str) -> Iterator[Task]:
        """Show something under way with the time it has taken, until the block ends."""


def elapsed(seconds: float) -> str:
    """Give a duration as people say it: ``8 s``, ``2 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class PlainTask:
    """A task told in lines, at most one per :data:`QUIET_SECONDS`, from a thread of its own."""

    def __init__(self, text: str, console: Console) -> None:
        self._text = text
        self._console = console
        self._started = time.monotonic()
        self._done: int | None = None
        self._total: int | None = None
        self._detail = ""
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        self._console.print(f"{self._text} ...", highlight=False, markup=False, soft_wrap=True)
        self._teller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._teller.join()
        self._line("failed after" if kind else "done in")

    def update(self, *, done: int | None = None, total: int | None = None, detail: str | None = None) -> None:
        """Remember how far it is; the next line tells."""
        self._done = self._done if done is None else done
        self._total = self._total if total is None else total
        self._detail = self._detail if detail is None else detail

    def _tell(self) -> None:
        while not self._ended.wait(QUIET_SECONDS):
            self._line("so far")

    def _line(self, word: str) -> None:
        counted = f" {self._done}/{self._total}" if self._total is not None and word == "so far" else ""
        detail = f" ({self._detail})" if self._detail and word == "so far" else ""
        spent = elapsed(time.monotonic() - self._started)
        self._console.print(
            f"{self._text}:{counted}{detail} {word} {spent}", highlight=False, markup=False, soft_wrap=True
        )


class PlainProgress:
    """Lines for a log, a pipe, or continuous integration."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, text: str) -> Iterator[Task]:
        """Tell that something starts, goes on, and ends."""
        with PlainTask(text, self._console) as task:
            yield task


class BarTask:
    """A task shown as a bar."""

    def __init__(self, bars: Bars, text: str) -> None:
        self._bars = bars
        self._id = bars.add_task(text, total=None, detail="")

    def update(self, *, done: int | None = None, total: int | None = None, detail: str | None = None) -> None:
        """Move the bar."""
        self._bars.update(self._id, completed=done, total=total)
        if detail is not None:
            self._bars.update(self._id, detail=detail)


class BarProgress:
    """Bars on a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False)

    @contextmanager
    def task(self, text: str) -> Iterator[Task]:
        """Show a bar, and leave one line with the time behind."""
        started = time.monotonic()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
        )
        with Bars(*columns, console=self._console, transient=True) as bars:
            yield BarTask(bars, text)
        self.say(f"{text}: {elapsed(time.monotonic() - started)}")


def default_progress() -> Progress:
    """Choose bars for a terminal, lines for everything else."""
    if sys.stderr.isatty() and not os.environ.get("CI"):
        return BarProgress()
    return PlainProgress()
