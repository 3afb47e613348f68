"""``python -m tests.bench``: measure, and print the numbers."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.errors import BenchError
from tests.bench.footprint import Footprint, measure_footprint
from tests.bench.machine import machine
from tests.bench.report import Report, as_json, show
from tests.bench.run import Asked, Measured, measure
from tests.bench.testbed import testbed
from tests.cluster import ClusterError, folders
from tests.cluster.progress import Progress, default_progress
from tests.demo.errors import DemoError
from tests.images.errors import ImageError

KEPT_LOG = "bench/sundog-operator.log"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    made.add_argument(
        "--sizes", type=_sizes, default=(1, 10, 100), metavar="N,N,…", help="numbers of LLMDeployments, or none"
    )
    made.add_argument("--samples", type=int, default=100, metavar="N", help="samples of each kind (default: 100)")
    made.add_argument(
        "--idle-seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="how long to watch the operator at rest; with 660 a comparison and two rounds of watches are seen",
    )
    made.add_argument(
        "--metrics-api",
        type=_count,
        default=200,
        metavar="N",
        help="LLMDeployments whose load the metrics API is asked for (default: 200; 0: leave that out)",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    made.add_argument(
        "--footprint",
        action=argparse.BooleanOptionalAction,
        default=os.geteuid() == 0,
        help="weigh real pods on a real node (needs root, and then is the default)",
    )
    return made


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of LLMDeployments: give one, or 0 for none")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    sizes = tuple(sorted({int(part) for part in text.split(",")}))
    if sizes[0] < 1:
        raise ValueError("a number of LLMDeployments is at least 1")
    return sizes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; a failure is told in one sentence."""
    given = parser().parse_args(arguments)
    progress = default_progress()
    try:
        asked = Asked(
            sizes=given.sizes,
            samples=given.samples,
            idle_seconds=given.idle_seconds,
            metrics_api=given.metrics_api,
        )
        measured = _measured(asked, progress)
        footprint = _footprint(progress) if given.footprint else ()
        report = Report(machine(), measured.runs, measured.metrics_api, footprint)
    except (BenchError, ClusterError, DemoError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was started has been taken away.", file=sys.stderr)
        return 130
    show(report)
    if given.json:
        given.json.write_text(as_json(report))
    return 0


def _measured(asked: Asked, progress: Progress) -> Measured:
    with testbed(progress) as bed:
        try:
            return asyncio.run(measure(bed, asked, progress=progress))
        finally:
            kept = folders.cache() / KEPT_LOG
            kept.parent.mkdir(exist_ok=True)
            if bed.log.exists():
                shutil.copyfile(bed.log, kept)
                progress.say(f"the operator's log: {kept}")


def _footprint(progress: Progress) -> list[Footprint]:
    return measure_footprint(progress)


if __name__ == "__main__":
    sys.exit(main())
