"""Drawing how load, replicas and latency went over time, as SVG with its texts as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tests.load.outcome import SLO, Record
from tests.load.samples import Run, Sample, over_time

SPAN_SECONDS: Final = 5.0
"""Requests of so many seconds make one point of latency."""


def save(runs: Sequence[Run], path: Path, *, slo: SLO | None = None) -> None:
    """Draw runs side by side on the same axes and write the SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "sundog",  # the same picture, the same file
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "font.size": 9,
        "legend.frameon": False,
    }
    with mpl.rc_context(style):  # type: ignore[arg-type]
        figure(runs, slo=slo).savefig(path, metadata={"Date": None})


def figure(runs: Sequence[Run], *, slo: SLO | None = None) -> Figure:
    """Draw runs: a column each, in it load, replicas and latency one below the other."""
    drawn = Figure(figsize=(max(7.0, 4.2 * len(runs)), 7.5), layout="constrained")
    rows = drawn.subplots(4, len(runs), sharex=True, sharey="row", squeeze=False)
    for column, run in enumerate(runs):
        load, replicas, first, between = rows[:, column]
        load.set_title(run.title)
        _draw_load(load, run)
        _draw_replicas(replicas, run)
        promised = slo.first_token_seconds if slo else None
        _draw_latency(first, run, lambda one: one.time_to_first_token, name="first", promised=promised)
        _draw_faults(first, run)
        promised = slo.inter_token_seconds * 1000 if slo else None
        _draw_latency(between, run, _milliseconds, name="between", promised=promised)
        between.set_xlabel("seconds")
    labels = ("requests", "replicas", "first token, s", "between tokens, ms")
    for row, label in zip(rows, labels, strict=True):
        row[0].set_ylabel(label)
        row[0].set_ylim(bottom=0)
        row[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return drawn


def _draw_load(axes: Axes, run: Run) -> None:
    axes.plot(*_known(run, lambda one: one.ongoing), label="ongoing", gid="ongoing")
    axes.plot(*_known(run, lambda one: one.waiting), label="of them waiting", gid="waiting")


def _draw_replicas(axes: Axes, run: Run) -> None:
    ready, there, asked = (
        _changes(*_known(run, value))
        for value in (lambda one: one.ready, lambda one: one.replicas, lambda one: one.asked)
    )
    axes.fill_between(*ready, step="post", alpha=0.25, gid="ready", label="ready")
    axes.step(*there, where="post", label="there, ready or not", gid="replicas")
    axes.step(*asked, where="post", label="asked for", gid="asked", linestyle="--")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _known(run: Run, value: Callable[[Sample], float | None]) -> tuple[list[float], list[float]]:
    """Give when something was told, and what."""
    found = [(one.at, told) for one in run.samples if (told := value(one)) is not None]
    return [at for at, _ in found], [told for _, told in found]


def _changes(at: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Leave out what was told again: steps are drawn from changes, and a filled one would be ten times the file."""
    last = len(values) - 1
    kept = [number for number in range(len(values)) if number in {0, last} or values[number] != values[number - 1]]
    return [at[number] for number in kept], [values[number] for number in kept]


def _draw_latency(
    axes: Axes, run: Run, latency: Callable[[Record], float | None], *, name: str, promised: float | None
) -> None:
    found = over_time(run.outcome.records, latency, every=SPAN_SECONDS)
    at = [middle for middle, _ in found]
    axes.plot(at, [one.p50 for _, one in found], label="p50", gid=f"{name}-p50")
    axes.plot(at, [one.p99 for _, one in found], label="p99", gid=f"{name}-p99")
    if promised is not None:
        axes.axhline(promised, linestyle=":", color="grey", label="promised", gid=f"{name}-promised")


def _draw_faults(axes: Axes, run: Run) -> None:
    at = [one.scheduled for one in run.outcome.records if one.fault]
    if at:
        axes.plot(at, [0.0] * len(at), "x", color="tab:red", label="not whole", gid="faults")


def _milliseconds(record: Record) -> float | None:
    return None if record.inter_token is None else record.inter_token * 1000
