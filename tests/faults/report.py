"""What became of the requests during a fault, and whether that is all right: values, and tables made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter
from rich.table import Table

from tests.load.outcome import LOST, Fault, Record

LATE: Final = 3
"""Requests that may have reached the victim between the moment it was asked how many it has and its end."""


@dataclass(frozen=True, slots=True)
class Result:
    """One fault under load."""

    name: str
    title: str
    streams: int
    """Long ones, those that were under way included."""
    requests: int
    """Short ones."""
    failed: int
    """Requests that never got a first byte, or an error in its place."""
    cut: int
    """Answers that began and broke off: the client sees an incomplete body, or an error in the stream."""
    unnoticed: int
    """Of those, the ones that looked complete to the client."""
    on_victim: int
    """Requests that the victim had when it was hit; 0 where nothing may be cut."""
    seconds: float
    """From the fault, or from its end where it lasts, until all is whole again."""
    said: tuple[str, ...] = ()
    """What the resource said meanwhile: the reasons of Ready, in order."""
    details: tuple[str, ...] = field(default=())
    """Of faults that should not have been."""

    @property
    def complaint(self) -> str:
        """Why that is not all right; empty: it is."""
        if self.failed:
            return f"{self.failed} new requests failed"
        if self.unnoticed:
            return f"{self.unnoticed} answers broke off and looked complete"
        if self.cut > (self.on_victim + LATE if self.on_victim else 0):
            return f"{self.cut} were cut, and {self.on_victim} were on the victim"
        return ""

    def cells(self) -> tuple[str, ...]:
        """Give the texts of a line of the table, in the order of `COLUMNS`."""
        return (
            self.title,
            f"{self.streams + self.requests:,}",
            f"{self.failed}",
            f"{self.cut} of {self.on_victim}" if self.on_victim else f"{self.cut}",
            f"{self.seconds:.0f} s",
            " → ".join(self.said),
            self.complaint or "yes",
        )


COLUMNS: Final = (
    "fault",
    "requests",
    "new ones failed",
    "cut, of those on the victim",
    "whole after",
    "Ready says",
    "as it should be",
)


def count(records: Iterable[Record]) -> tuple[int, int, int, tuple[str, ...]]:
    """Count requests that failed, were cut, and were cut unnoticed; and say how.

    An error event within a stream that had begun is a cut that is told.
    """
    failed = cut = unnoticed = 0
    details: list[str] = []
    for record in records:
        if record.fault is None:
            continue
        begun = record.fault in LOST or (record.fault is Fault.ERROR and record.tokens > 0)
        cut, failed = cut + begun, failed + (not begun)
        # A stream with fewer tokens than were asked for, and with an end as if that were all.
        unnoticed += record.fault in {Fault.UNENDED, Fault.GAP}
        details.append(f"{record.fault}: {record.detail}")
    return failed, cut, unnoticed, tuple(sorted(set(details)))


def told(reasons: Iterable[str]) -> tuple[str, ...]:
    """Leave out what was said again."""
    found: list[str] = []
    for reason in reasons:
        if reason and (not found or found[-1] != reason):
            found.append(reason)
    return tuple(found)


def as_text(results: Sequence[Result]) -> Table:
    """Give the table for a terminal."""
    table = Table(title="Faults under load", title_justify="left", show_lines=True)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number in {1, 2, 3, 4} else "left")
    for result in results:
        table.add_row(*result.cells())
    return table


def as_markdown(results: Sequence[Result]) -> str:
    """Give the table for a document."""
    rule = ("---", "---:", "---:", "---:", "---:", "---", "---")
    lines = [COLUMNS, rule, *(result.cells() for result in results)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def to_json(result: Result) -> bytes:
    """Write it, so that the table can be made again."""
    return TypeAdapter(Result).dump_json(result)


def from_json(text: bytes) -> Result:
    """Read what `to_json` wrote."""
    return TypeAdapter(Result).validate_json(text)
