"""Showing a load while it runs: live on a terminal, plain lines now and then everywhere else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.load.outcome import Outcome
from tests.load.samples import Sample

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 45
"""Samples that a sparkline shows, one a second; with what stands before it that fits 80 columns."""
LABEL: Final = 8
VALUE: Final = len("12 asked, 12 ready")
QUIET_SECONDS: Final = 15.0
"""A log that says nothing for longer looks stuck."""


@dataclass(slots=True)
class Scene:
    """What is shown: it grows while the load runs."""

    name: str
    """Of the LLMDeployment."""
    outcome: Outcome
    samples: Sequence[Sample]
    phase: str = ""
    """What is waited for at present."""

    @property
    def now(self) -> Sample:
        """The newest sample."""
        return self.samples[-1] if self.samples else Sample(0.0)

    def streams(self) -> str:
        """Say what became of the streams so far."""
        refused = sum(self.outcome.kinds.values()) - self.outcome.lost
        return (
            f"{self.outcome.whole} whole, {self.outcome.lost} cut, {self.outcome.under_way} under way"
            f"{f', {refused} refused or failed' if refused else ''}"
        )


def sparkline(values: Sequence[float | None], *, width: int = WIDTH) -> str:
    """Draw the last values as bars from 0 to the largest of them; a blank where there is none."""
    shown = values[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(
        " " if value is None else BARS[min(len(BARS) - 1, int(value / top * len(BARS)))] if top else BARS[0]
        for value in shown
    )


def draw(scene: Scene) -> RenderableType:
    """Draw a scene for a terminal."""
    now, samples = scene.now, scene.samples
    numbers = Table.grid(padding=(0, 2))
    numbers.add_column(style="dim", width=LABEL)
    numbers.add_column(no_wrap=True, width=VALUE)
    numbers.add_column(no_wrap=True, style="cyan")
    for name, value, history in (
        ("replicas", _replicas(now), [one.ready for one in samples]),
        ("ongoing", _number(now.ongoing), [one.ongoing for one in samples]),
        ("waiting", _number(now.waiting), [one.waiting for one in samples]),
    ):
        numbers.add_row(name, value, sparkline(history))
    words = Table.grid(padding=(0, 2))
    words.add_column(style="dim", width=LABEL)
    words.add_column(no_wrap=True, overflow="ellipsis")
    words.add_row("streams", scene.streams())
    words.add_row("decision", now.decision or "none yet")
    if now.problem:
        words.add_row("unknown", Text(now.problem, style="yellow"))
    title = Text.assemble((scene.name, "bold"), f": {scene.phase}", (f"  {now.at:.0f} s", "dim"))
    return Group(title, numbers, words)


def line(scene: Scene) -> str:
    """Say a scene in one line, for a log."""
    now = scene.now
    return (
        f"[{now.at:4.0f} s] {scene.phase}; replicas {_replicas(now)}; {_number(now.ongoing)} ongoing, "
        f"{_number(now.waiting)} waiting; streams {scene.streams()}"
    )


def _replicas(now: Sample) -> str:
    return f"{_number(now.asked)} asked, {_number(now.ready)} ready"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


@dataclass(slots=True)
class View:
    """Shows a scene; an async context manager."""

    scene: Scene
    console: Console = field(default_factory=lambda: Console(highlight=False))
    _display: Live | None = None
    _teller: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self.console.is_terminal and not os.environ.get("CI"):
            self._display = Live(
                get_renderable=lambda: draw(self.scene), console=self.console, transient=True, refresh_per_second=4
            )
            self._display.start()
        else:
            self._teller = asyncio.create_task(self._tell())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._display:
            self._display.stop()
        if self._teller:
            self._teller.cancel()

    async def _tell(self) -> None:
        """Print a line when replicas or phase have changed, and when nothing was said for a while; decisions once."""
        told: object = None
        decision = ""
        last = 0.0
        while True:
            now = self.scene.now
            if now.decision != decision:
                decision = now.decision
                self._print(f"[{now.at:4.0f} s] {decision}")
            key = (self.scene.phase, now.asked, now.ready)
            if self.scene.samples and (key != told or now.at - last >= QUIET_SECONDS):
                self._print(line(self.scene))
                told, last = key, now.at
            await asyncio.sleep(0.5)

    def _print(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)
