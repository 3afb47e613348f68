"""The live view of a recorded state, on a terminal and in a log."""

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console

from tests.load import view
from tests.load.outcome import Fault, Outcome
from tests.load.samples import Sample
from tests.load.test_outcome import record
from tests.load.test_samples import WENT_UP
from tests.load.view import Scene, View, draw, line, sparkline
from tests.serving.conftest import until

OUTCOME = Outcome([record(), record(), record(fault=Fault.CUT), record(fault=Fault.REFUSED), record(ended=None)])


def scene(**now: Any) -> Scene:
    before = Sample(41.0, asked=1, ready=1, ongoing=3.0, waiting=0.0)
    values = {"asked": 2, "ready": 1, "ongoing": 14.0, "waiting": 2.0, "decision": WENT_UP, **now}
    return Scene("fake", OUTCOME, [before, Sample(42.0, **values)], "load rises")


def drawn(wanted: Scene, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(draw(wanted))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([0.0, 0.0], "▁▁"),
        ([0.0, 7.0, 3.5], "▁█▅"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇██"),
        ([None, 5.0, None], " █ "),
        ([100.0, 1.0, 1.0, 1.0], "███"),
    ],
)
def test_a_sparkline_goes_from_0_to_the_largest_that_it_shows(values: list[float | None], expected: str) -> None:
    assert sparkline(values, width=3 if len(values) == 4 else 20) == expected


def test_the_view_shows_replicas_requests_streams_and_the_last_decision() -> None:
    title, *rows = [text.rstrip() for text in drawn(scene(), width=130).splitlines()]
    assert title == "fake: load rises  42 s"
    assert rows == [
        "replicas  2 asked, 1 ready    ██",
        "ongoing   14                  ▂█",
        "waiting   2                   ▁█",
        "streams   2 whole, 1 cut, 1 under way, 1 refused or failed",
        f"decision  {WENT_UP}",
    ]


def test_the_view_says_what_is_not_known_and_why() -> None:
    text = drawn(scene(ongoing=None, waiting=None, decision="", problem="HTTP 503 no router is ready"))
    assert "ongoing   ?" in text
    assert "decision  none yet" in text
    assert "unknown   HTTP 503 no router is ready" in text


def test_the_view_fits_80_columns_for_as_long_as_it_runs() -> None:
    long = Scene("fake", OUTCOME, [Sample(float(at), asked=10, ready=10, ongoing=7.0) for at in range(500)], "x")
    assert max(len(text) for text in drawn(long).splitlines()) <= 80
    assert "…" not in drawn(long)


def test_a_view_of_nothing_yet_can_be_drawn() -> None:
    assert "replicas  ? asked, ? ready" in drawn(Scene("fake", Outcome(), [], "begins"))


def test_a_line_of_a_log_says_the_same() -> None:
    assert line(scene()) == (
        "[  42 s] load rises; replicas 2 asked, 1 ready; 14 ongoing, 2 waiting; streams 2 whole, 1 cut, 1 under way, "
        "1 refused or failed"
    )


async def test_without_a_terminal_a_line_is_printed_for_each_change_and_now_and_then() -> None:
    shown = Scene("fake", OUTCOME, [], "begins")
    samples = shown.samples = []
    file = io.StringIO()

    def lines() -> list[str]:
        return file.getvalue().splitlines()

    async with View(shown, Console(file=file)):
        samples.append(Sample(0.0, asked=1, ready=1))
        await until(lambda: len(lines()) == 1)
        samples.append(Sample(1.0, asked=1, ready=1, ongoing=9.0))
        samples.append(Sample(2.0, asked=2, ready=1, decision=WENT_UP))
        await until(lambda: len(lines()) == 3)
        samples.append(Sample(2.0 + view.QUIET_SECONDS, asked=2, ready=1, decision=WENT_UP))
        await until(lambda: len(lines()) == 4)
    first, decision, change, later = lines()
    assert "1 asked, 1 ready" in first
    assert decision == f"[   2 s] {WENT_UP}"
    assert "[   2 s] begins; replicas 2 asked, 1 ready" in change
    assert "[  17 s] begins; replicas 2 asked, 1 ready" in later
    assert "\x1b" not in file.getvalue()


async def test_on_a_terminal_it_is_live_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    file = io.StringIO()
    async with View(scene(), Console(file=file, force_terminal=True, width=80)):
        await until(lambda: "2 asked, 1 ready" in file.getvalue())
        await asyncio.sleep(0)
    assert file.getvalue().endswith("\x1b[2K")  # its last act is to erase its lines
