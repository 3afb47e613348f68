"""Commands beside others: what is shown of them, how they fail, and that none survives its end."""

import asyncio
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.demo import jobs
from tests.demo.board import Board, Step, elapsed
from tests.demo.errors import DemoError
from tests.demo.parts import PREPARED, Part, command, in_order, make


def board() -> tuple[Board, io.StringIO]:
    shown = io.StringIO()
    return Board(Console(file=shown, width=100)), shown


async def test_the_last_line_of_a_failed_command_is_its_reason_and_the_log_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log" / "part.log"
    with pytest.raises(DemoError, match="Part failed: the disk is on fire") as raised:
        await jobs.run(Step("Part"), ["sh", "-c", "echo begun; echo the disk is on fire >&2; exit 3"], log=log)
    assert str(log) in str(raised.value)
    assert log.read_text() == "begun\nthe disk is on fire\n"


async def test_a_line_that_calls_itself_an_error_is_the_reason_also_when_others_follow(tmp_path: Path) -> None:
    script = "echo 'Error: the pod is not ready'; echo context deadline exceeded; exit 1"
    with pytest.raises(DemoError, match="Part failed: the pod is not ready\n"):
        await jobs.run(Step("Part"), ["sh", "-c", script], log=tmp_path / "log")


async def test_counted_output_moves_the_bar(tmp_path: Path) -> None:
    step = Step("Part")
    await jobs.run(step, ["sh", "-c", "echo 'Building: 12/40 (k8s.io/api)'; sleep 0.5"], log=tmp_path / "log")
    assert (step.done, step.total) == (12, 40)


def test_colours_and_carriage_returns_are_not_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\n\x1b[32mworking 10%\rworking 20%\x1b[0m\n\n")
    assert jobs.last_line(log) == "working 20%"


async def test_a_command_that_is_interrupted_leaves_no_process_behind(tmp_path: Path) -> None:
    """Its children get the same chance to put away what is half-made that Ctrl-C would have given them."""
    script = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import pathlib, time
pathlib.Path({str(tmp_path / "ready")!r}).touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path({str(tmp_path / "tidied")!r}).touch()
'''])
child.wait()
"""
    running = asyncio.create_task(jobs.run(Step("Part"), [sys.executable, "-c", script], log=tmp_path / "log"))
    async with asyncio.timeout(20):
        while not (tmp_path / "ready").exists():  # noqa: ASYNC110  the child is another program: it has no event to set
            await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(20):
        while not (tmp_path / "tidied").exists():  # noqa: ASYNC110  as above
            await asyncio.sleep(0.02)


async def test_parts_are_made_side_by_side_and_after_their_needs(tmp_path: Path) -> None:
    order: list[str] = []

    def part(name: str, *, needs: tuple[str, ...] = ()) -> Part:
        async def work(_step: Step, _log: Path) -> None:
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

        return Part(name, work, needs=needs)

    parts = {"base": part("base"), "left": part("left", needs=("base",)), "right": part("right", needs=("base",))}
    shown, text = board()
    async with shown:
        await make(shown, parts, ["left", "right"], logs=tmp_path)
    assert order == ["base begins", "base ends", "left begins", "right begins", "left ends", "right ends"]
    assert "left: done in 0 s" in text.getvalue()


async def test_the_first_failure_ends_the_others_and_is_told_once(tmp_path: Path) -> None:
    parts = {
        "slow": Part("Slow", command("sleep", "60")),
        "broken": Part("Broken", command("sh", "-c", "echo no such thing; exit 1")),
        "after": Part("After", command("true"), needs=("broken",)),
    }
    shown, text = board()
    async with asyncio.timeout(30), shown:
        with pytest.raises(DemoError, match="Broken failed: no such thing"):
            await make(shown, parts, parts, logs=tmp_path)
    assert "Broken: failed after" in text.getvalue()
    assert "After" not in text.getvalue()


async def test_packages_are_prepared_by_several_at_once_as_stages_do_it(tmp_path: Path) -> None:
    """`dpkg` refuses to run twice at the same time."""

    async def prepare(number: int) -> None:
        await PREPARED["packages"].make(Step("Packages"), tmp_path / f"{number}.log")

    await asyncio.gather(*(prepare(number) for number in range(4)))


def test_needs_come_first() -> None:
    async def work(_step: Step, _log: Path) -> None: ...

    parts = {"a": Part("a", work), "b": Part("b", work, needs=("a",)), "c": Part("c", work, needs=("b", "a"))}
    assert in_order(parts, ["c", "b"]) == ["a", "b", "c"]


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (725, "12 min 05 s")])
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert elapsed(seconds) == said
