"""What commands found, printed for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sundog_cli.doctor import Finding, State
from sundog_cli.explain import Explanation
from sundog_cli.figures import Answered, Figures, Percentiles, plot
from sundog_cli.rendering import Difference
from sundog_cli.terminal import console

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.WRONG: "red", State.UNKNOWN: "dim"}
_LINES = {"+": "green", "-": "red", "@": "cyan"}


def print_explanation(told: Explanation) -> None:
    """Print it question by question."""
    screen = console()
    for title, sentences in (
        ("Ready" if told.is_ready else "Why not ready", told.ready),
        ("Why this many replicas", told.replicas),
        ("Why this revision", told.revision),
        ("Not seen", told.unread),
    ):
        if sentences:
            screen.print(Text(title, "bold"))
        for sentence in sentences:
            screen.print(f"  {sentence}")


def print_findings(found: Sequence[Finding]) -> None:
    """Print each with its cure."""
    screen = console()
    for finding in found:
        state = Text(f"{finding.state:8}", _STYLES[finding.state])
        screen.print(Text.assemble(state, (f"{finding.check}: ", "bold"), finding.found))
        if finding.cure:
            screen.print(f"{'':8}→ {finding.cure}")


def print_differences(summary: str, found: Sequence[Difference]) -> None:
    """Print it as a diff, whose comments say what it comes to."""
    screen = console()
    screen.print(Text(f"# {summary}", "bold"))
    for each in found:
        screen.print(Text(f"# {each.change}: {each.kind} {each.name}"))
        for text in each.lines:
            screen.print(Text(text, _LINES.get(text[:1], "")))


def print_figures(told: Figures, answered: Sequence[Answered]) -> None:
    """Print what a load came to."""
    screen = console()
    table = Table("", "p50", "p90", "p99", box=None, pad_edge=False)
    for label, found in (
        ("time to first token", told.time_to_first_token),
        ("between two tokens", told.inter_token),
        ("whole answer", told.total),
    ):
        table.add_row(label, *_cells(found))
    rate = f"{told.tokens_per_second:.1f} tokens/s"
    screen.print(f"{told.whole} of {told.requests} requests answered in {told.seconds:.1f} s, {rate}")
    screen.print(table)
    for fault, count in told.faults.items():
        screen.print(f"{count} failed: {fault}")
    if drawing := plot(answered):
        screen.print(drawing)


def _cells(found: Percentiles | None) -> list[str]:
    return ["-"] * 3 if found is None else [f"{value * 1000:.0f} ms" for value in (found.p50, found.p90, found.p99)]
