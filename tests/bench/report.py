"""What was measured, for people and for programs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench import peers
from tests.bench.changes import CROWD
from tests.bench.figures import Distribution
from tests.bench.footprint import Footprint
from tests.bench.machine import Machine
from tests.bench.metrics_api import IN_FLIGHT, PERIOD_SECONDS, MetricsApi, Questions
from tests.bench.run import Run
from tests.cluster import KUBERNETES_VERSION

WIDTH: Final = 132
"""Characters a line may have where the output goes to no terminal that would tell."""


@dataclass(frozen=True, slots=True)
class Report:
    """All of one run of the bench."""

    machine: Machine
    runs: Sequence[Run]
    metrics_api: MetricsApi | None
    footprint: Sequence[Footprint]


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    cell: Callable[[Run], str]
    promise: str = ""
    peers: tuple[str, ...] = ()
    """The others' figures of the same, where there are any."""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _both(found: Distribution) -> str:
    return f"{_milliseconds(found.p50)} / {_milliseconds(found.p99)} ms"


def _crowded(run: Run) -> str:
    if run.crowded is None:
        return ""
    return f"{_milliseconds(run.crowded.service.p50)} ({_milliseconds(run.crowded.quiet.p50)}) ms"


_ROWS: Final = (
    _Row("creation: children made per second", lambda run: f"{run.creation.children_per_second:.0f}"),
    _Row(
        "creation: API calls (Events of them)",
        lambda run: f"{run.creation.calls_per_resource:.0f} ({run.creation.events_per_resource:.0f})",
        peers=peers.CREATION_CALLS,
    ),
    _Row(
        "creation: CPU of the operator",
        lambda run: f"{run.creation.cpu_milliseconds_per_resource:.0f} ms",
        peers=peers.CREATION_CPU,
    ),
    _Row("annotations → Service", lambda run: _both(run.changes.service), "15 / 50 ms", peers.REACTION),
    _Row("replicas → worker Deployment", lambda run: _both(run.changes.worker), "15 / 50 ms"),
    _Row("  of both, the API server's own part", lambda run: _both(run.changes.echo)),
    _Row(f"the first, p50, beside one of {CROWD} pods", _crowded, "2 x", peers.CROWDED),
    _Row(
        "at rest: API; Ray requests, an hour",
        lambda run: f"{run.idle.others_per_resource:,.0f}; {run.idle.ray_per_resource:,.0f}",
        "0; 0",
        peers.IDLE_REQUESTS,
    ),
    _Row("  in all: Lease; watches, an hour", lambda run: f"{run.idle.leases:,.0f}; {run.idle.watches:,.0f}"),
    _Row(
        "at rest: CPU, an hour",
        lambda run: f"{run.idle.cpu_milliseconds_per_resource:,.0f} ms",
        peers=peers.IDLE_CPU,
    ),
    _Row("restart: needless writes, in all", lambda run: f"{run.restart.writes}", "0", peers.RESTART),
    _Row("peak RSS of the operator", lambda run: f"{run.peak_mebibytes:.0f} MiB", "120 MiB", peers.MEMORY),
    _Row("other programs used, processors", lambda run: f"{run.other_processors:.1f}"),
)


@dataclass(frozen=True, slots=True)
class _QuestionsRow:
    title: str
    cell: Callable[[Questions], str]


_QUESTIONS_ROWS: Final = (
    _QuestionsRow("questions per second", lambda asked: f"{asked.per_second:,.1f}"),
    _QuestionsRow("a question, through the API server", lambda asked: _both(asked.latency)),
    _QuestionsRow("CPU of the operator", lambda asked: f"{asked.cpu_milliseconds_each:.2f} ms"),
    _QuestionsRow("requests to pods", lambda asked: f"{asked.pod_requests_each:.1f}"),
)


def show(report: Report, *, console: Console | None = None) -> None:
    """Print the tables."""
    console = console or _console()
    where = report.machine
    console.print(
        f"\nOn {where.processors} processors ({where.processor}), {where.memory_gibibytes:.0f} GiB, "
        f"Linux {where.kernel}, Python {where.python}, Kubernetes {KUBERNETES_VERSION}; "
        "pods played by KWOK, one head and three workers each.",
        highlight=False,
    )
    if report.runs:
        console.print(_own(report.runs))
        console.print(_beside_peers(report.runs[-1]))
        console.print(
            f"The others were measured once, on another machine of two cores, with up to {peers.RESOURCES} resources: "
            "requests and writes compare as they stand, milliseconds only as ratios.",
            highlight=False,
        )
    if report.metrics_api:
        console.print(_metrics_api(report.metrics_api))
    if report.footprint:
        console.print(_weights(report.footprint))


def as_json(report: Report) -> str:
    """Give all of it for programs."""
    whole: dict[str, Any] = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "sundog": importlib.metadata.version("sundog"),
        "kubernetes": KUBERNETES_VERSION,
        **dataclasses.asdict(report),
        "peers": {"names": peers.NAMES, "resources": peers.RESOURCES, "figures": peers.FIGURES},
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _console() -> Console:
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _own(runs: Sequence[Run]) -> Table:
    title = "Sundog, by number of LLMDeployments; each, unless it says: in all; latencies p50 / p99"
    table = _table(title, *(f"{run.size:,}" for run in runs), "promised")
    for row in _ROWS:
        table.add_row(row.title, *(row.cell(run) for run in runs), row.promise)
    return table


def _beside_peers(run: Run) -> Table:
    table = _table("Beside others", f"Sundog, {run.size:,}", *peers.NAMES)
    for row in _ROWS:
        if row.peers:
            table.add_row(row.title, row.cell(run), *row.peers)
    return table


def _metrics_api(found: MetricsApi) -> Table:
    title = f"The metrics API with {found.size:,} LLMDeployments; each question, latencies p50 / p99"
    table = _table(title, f"every {PERIOD_SECONDS:g} s", f"{IN_FLIGHT} in flight")
    for row in _QUESTIONS_ROWS:
        table.add_row(row.title, row.cell(found.steady), row.cell(found.busy))
    table.add_row("other programs used, processors", f"{found.other_processors:.1f}", "")
    return table


def _weights(found: Sequence[Footprint]) -> Table:
    table = _table("Weight of a pod (PSS) with the fake engine", "MiB", "processes")
    for one in found:
        table.add_row(one.component, f"{one.mebibytes:,.0f}", f"{one.processes}")
    return table
