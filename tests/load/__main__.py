"""``python -m tests.load extract/replay/simulate/report``: make the recorded trace small, replay it, show it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.errors import BenchError
from tests.bench.node import install, node
from tests.cluster import Cluster, ClusterError, folders, use_existing
from tests.cluster.progress import Progress, default_progress
from tests.demo.errors import DemoError
from tests.e2e.site import Site
from tests.images.errors import ImageError
from tests.load import plot
from tests.load.arrivals import RECORDED, SCALE, origin, read, read_mooncake, scale_down, write
from tests.load.replay import POLICIES, PROMISE, VARIANTS, Row, as_markdown, as_text, replay, simulated, with_table
from tests.load.samples import Run
from tests.load.simulation import START_SECONDS

NAME = "sundog-load"
"""Of the cluster."""
NAMESPACE = "replay"
DOCUMENT = Path(__file__).parents[2] / "docs" / "autoscaling-replay.md"
WIDTH = 160


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    extract = commands.add_parser("extract", help=f"make {RECORDED.name} from the trace of Mooncake's authors")
    extract.add_argument("trace", type=Path, help="conversation_trace.jsonl")
    again = commands.add_parser("replay", help="replay it on a node of its own: seven minutes per policy, as root")
    again.add_argument("policy", nargs="*", help=f"default: all of {', '.join(POLICIES)}")
    beside = commands.add_parser("simulate", help="the same and some more policies without a cluster, in a second")
    beside.add_argument(
        "--start-seconds",
        type=float,
        default=START_SECONDS,
        metavar="S",
        help=f"that a replica takes to start, divided by {SCALE.time_divisor} as all times are (default: %(default)s)",
    )
    commands.add_parser("report", help=f"print the table of all runs so far, and write it to {DOCUMENT.name}")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a failure is told in one sentence."""
    made = parser()
    given = made.parse_args(arguments)
    if unknown := [name for name in getattr(given, "policy", []) if name not in POLICIES]:
        made.error(f"there is no policy {unknown[0]!r}: there are {', '.join(POLICIES)}")
    try:
        if given.command == "extract":
            with given.trace.open() as lines:
                RECORDED.write_text(write(scale_down(read_mooncake(lines), SCALE), origin=origin(SCALE)))
            print(f"written: {RECORDED}")
            return 0
        if given.command == "simulate":
            _print(as_text("Simulated", _simulated(given.start_seconds)))
            return 0
        if given.command == "replay":
            _replay(given.policy or list(POLICIES))
        _report()
    except (BenchError, ClusterError, DemoError, ImageError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was started has been taken away.", file=sys.stderr)
        return 130
    return 0


def _record(policy: str) -> Path:
    return folders.cache() / "replay" / f"{policy}.json"


@contextmanager
def _cluster(progress: Progress) -> Iterator[Cluster]:
    if use_existing():
        yield Cluster.existing()
        return
    with node(NAME, progress) as found:
        install(found)
        yield found


def _replay(names: Sequence[str]) -> None:
    arrivals = read()
    console = Console(highlight=False)
    _record("").parent.mkdir(parents=True, exist_ok=True)
    with _cluster(default_progress()) as cluster:
        cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        for name in names:
            run = asyncio.run(replay(Site(cluster, NAMESPACE), POLICIES[name], arrivals, console=console))
            _record(name).write_bytes(run.to_json())
            console.print(f"{run.title}: {run.outcome}; sent late by {run.outcome.lateness}", soft_wrap=True)


def _read(record: Path) -> Run:
    try:
        return Run.from_json(record.read_bytes())
    except ValueError:
        raise BenchError(
            f"{record} is of another version: run python -m tests.load replay {record.stem} again"
        ) from None


def _report() -> None:
    runs = [_read(_record(name)) for name in POLICIES if _record(name).exists()]
    if not runs:
        raise BenchError(f"there is no run in {_record('').parent}: make replay makes them")
    rows, beside = [Row.of(run, PROMISE) for run in runs], _simulated(START_SECONDS)
    _print(as_text("Measured", rows))
    _print(as_text("Simulated", beside))
    plot.save(runs, DOCUMENT.with_suffix(".svg"), slo=PROMISE)
    text = with_table(DOCUMENT.read_text(), "measured", as_markdown(rows))
    DOCUMENT.write_text(with_table(text, "simulated", as_markdown(beside)))
    print(f"written: {DOCUMENT}, {DOCUMENT.with_suffix('.svg')}")


def _simulated(start_seconds: float) -> list[Row]:
    arrivals = read()
    return [
        Row.of(simulated(policy, arrivals, start_seconds=start_seconds), PROMISE)
        for policy in (POLICIES | VARIANTS).values()
    ]


def _print(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)


if __name__ == "__main__":
    sys.exit(main())
