"""``python -m tests.faults [FAULT…|report]``: break things under load, and tell what came of it."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench.errors import BenchError
from tests.bench.node import install, node
from tests.cluster import ClusterError, folders
from tests.cluster.progress import default_progress
from tests.demo.errors import DemoError
from tests.e2e.site import Site
from tests.faults.faults import FAULTS
from tests.faults.report import Result, as_markdown, as_text, from_json, to_json
from tests.faults.run import clear, run
from tests.images.errors import ImageError
from tests.load.replay import with_table

CLUSTER = "sundog-faults"
DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults that are named, or all, and report.

    Returns:
        0; 1 where something was lost that need not be, or could not be tried; 130 after Ctrl-C.
    """
    named = list(sys.argv[1:] if arguments is None else arguments)
    if unknown := [name for name in named if name not in {*FAULTS, "report"}]:
        print(f"error: there is no fault {unknown[0]!r}: there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    try:
        if named != ["report"]:
            asyncio.run(_run(named or list(FAULTS)))
        results = [_read(name) for name in FAULTS if _record(name).exists()]
    except (BenchError, ClusterError, DemoError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was started has been taken away.", file=sys.stderr)
        return 130
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(as_text(results))
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(), "measured", as_markdown(results)))
    print(f"written: {DOCUMENT}")
    missing = [name for name in FAULTS if name not in {result.name for result in results}]
    for name in missing:
        print(f"not tried yet: {name}")
    for result in results:
        if result.complaint:
            print(f"{result.title}: {result.complaint}; {'; '.join(result.details)}")
    return 1 if any(result.complaint for result in results) else 0


async def _run(names: Sequence[str]) -> None:
    _record("").parent.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    with node(CLUSTER, default_progress()) as cluster:
        install(cluster)
        for number, name in enumerate(names, start=1):
            fault = FAULTS[name]
            console.print(f"{number} of {len(names)}: {fault.title} …")
            site = Site(cluster, f"faults-{uuid.uuid4().hex[:6]}")
            labels = {"pod-security.kubernetes.io/enforce": "restricted"}
            cluster.apply(
                [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace, "labels": labels}}]
            )
            _record(name).unlink(missing_ok=True)
            try:
                result = await run(site, fault)
            except AssertionError as error:
                console.print(f"  it did not come to an end: {error}", soft_wrap=True)
            else:
                _record(name).write_bytes(to_json(result))
                console.print(f"  {' | '.join(result.cells()[1:])}", soft_wrap=True)
            await clear(site)


def _record(name: str) -> Path:
    return folders.cache() / "faults" / f"{name}.json"


def _read(name: str) -> Result:
    try:
        return from_json(_record(name).read_bytes())
    except ValueError:
        raise BenchError(f"{_record(name)} is of another version: run python -m tests.faults {name} again") from None


if __name__ == "__main__":
    sys.exit(main())
