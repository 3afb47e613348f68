"""`status --watch` and `deploy --wait`: what a person sees while reports change, in a terminal and in a file."""

from __future__ import annotations

import io
import re
from collections.abc import Awaitable, Callable

import pytest
from rich.console import Console

from sundog_cli import terminal
from sundog_cli.report import Report, report
from tests.unit.cli.recorded import NOW, loading, ready, snapshot

LOADING = report(snapshot(loading()), now=NOW)
READY = report(snapshot(ready(replicas=3)), now=NOW)
CONTROL = re.compile(r"(\x1b\[[?\d;]*[A-Za-z]|\r|\n)")
GUIDES = "│├└─ "


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal of 100 columns."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    made = terminal.console()
    made.file, made.width = io.StringIO(), 100
    return made


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    made = terminal.console()
    made.file = io.StringIO()
    return made


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "POLL_SECONDS", 0.0)


def reading(*reports: Report) -> Callable[[], Awaitable[list[Report]]]:
    rest = list(reports)

    async def read() -> list[Report]:
        return [rest.pop(0)]

    return read


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def seen(console: Console) -> list[str]:
    """The lines that stand in the terminal after all that was written to it."""
    lines, row, column = [""], 0, 0
    for part in CONTROL.split(written(console)):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif part == "\r":
            column = 0
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.startswith("\x1b[") and part.endswith("A"):
            row -= int(part[2:-1])
        elif not part.startswith("\x1b["):  # else a colour, or the cursor is hidden or shown
            line = lines[row]
            lines[row] = line[:column].ljust(column) + part + line[column + len(part) :]
            column += len(part)
    assert max(map(len, lines)) <= console.width, "the terminal would break a line where rich does not know of it"
    return [line.rstrip() for line in lines if line.strip()]


async def test_in_a_terminal_one_picture_is_kept_up_to_date(screen: Console) -> None:
    pictures: list[list[str]] = []

    def is_ready(reports: list[Report]) -> bool:
        pictures.append(seen(screen))
        return reports == [READY]

    assert await terminal.show(reading(LOADING, LOADING, READY), screen, until=is_ready) == [READY]
    first, same, last = pictures
    assert first == same
    assert "team/qwen3  hf://Qwen/Qwen3-0.6B  2 of 3 replicas ready  ReplicasStarting" in first[0]
    assert any("loads the model  ████████████░░░░░░░░ 62%" in line for line in first)
    # The second picture is shorter than the first, and nothing of that stays.
    assert "team/qwen3  hf://Qwen/Qwen3-0.6B  3 of 3 replicas ready  AllReplicasReady" in last[0]
    assert len(last) == 9
    assert not any(word in line for line in last for word in ("2 of 3", "what to do", "62%", "node-2"))
    assert seen(screen) == last, "and the last one stays"
    assert written(screen).endswith("\x1b[?25h"), "with a cursor"


async def test_a_terminal_too_narrow_for_a_sentence_shows_all_of_it(screen: Console) -> None:
    screen.width = 60
    await terminal.show(reading(LOADING), screen, until=lambda _: True)
    words = " ".join(word for line in seen(screen) for word in line.strip(GUIDES).split())
    assert f"what to do: {LOADING.cure}" in words
    assert "62% about 30s left 50s on node-2" in words
    assert words.count("what to do") == 1


async def test_without_a_terminal_each_change_is_one_line(file: Console) -> None:
    await terminal.show(reading(LOADING, LOADING, READY), file, until=lambda reports: reports == [READY])
    assert written(file).splitlines() == [
        "team/qwen3: 2 of 3 replicas ready, ReplicasStarting: 2 of 3 replicas answer; the others are loading the model",
        "team/qwen3: 3 of 3 replicas ready, AllReplicasReady: 3 of 3 replicas answer",
    ]


async def test_watching_ends_when_its_time_is_up(file: Console) -> None:
    assert await terminal.show(reading(LOADING), file, until=lambda _: False, seconds=0) == [LOADING]
