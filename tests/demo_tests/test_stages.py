"""`make test` in small: what is run, what is not, and what is told of it."""

import sys
from pathlib import Path

import pytest

from tests import stages
from tests.demo.parts import PREPARED, Part, command
from tests.stages import Stage

REPORT = '<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"/></testsuites>'


@pytest.fixture(autouse=True)
def other_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder with targets of its own."""
    (tmp_path / "Makefile").write_text(
        f"good:\n\t@echo '{REPORT}' > $(subst --junitxml=,,$(PYTEST_ADDOPTS))\nbad:\n\t@echo broken; exit 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "FOLDER", tmp_path / "results")


async def words(*wanted: Stage) -> list[str]:
    return [outcome.word for outcome in await stages.run(wanted)]


async def test_a_failed_stage_does_not_keep_others_from_running() -> None:
    assert await words(Stage("good"), Stage("bad"), Stage("good")) == ["passed", "failed", "passed"]


async def test_nothing_dear_is_begun_when_the_first_stage_failed() -> None:
    assert await words(Stage("bad"), Stage("good")) == ["failed", "not run: bad failed"]


async def test_two_stages_after_the_first_run_side_by_side(tmp_path: Path) -> None:
    meet = "\n\t@touch $@; for i in $$(seq 600); do test -e {other} && exit 0; sleep 0.1; done; exit 1\n"
    (tmp_path / "Makefile").write_text(f"first: ;\na:{meet.format(other='b')}b:{meet.format(other='a')}")
    assert await words(Stage("first"), Stage("a"), Stage("b")) == ["passed"] * 3


async def test_every_line_says_which_stage_it_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    await words(Stage("good"), Stage("bad"))
    assert "bad            │ broken\n" in capsys.readouterr().out


async def test_tests_are_counted_from_what_pytest_reports() -> None:
    (outcome,) = await stages.run([Stage("good")])
    assert (outcome.passed, outcome.failed, outcome.skipped) == (3, 2, 2)


async def test_a_stage_waits_for_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PREPARED, "slow", Part("Slow", command("sh", "-c", f"sleep 0.3; touch {tmp_path}/made")))
    (tmp_path / "Makefile").write_text("first: ;\nsecond:\n\t@test -e made\n")
    assert await words(Stage("first"), Stage("second", needs=("slow",))) == ["passed", "passed"]


async def test_the_first_of_those_that_could_run_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "AT_ONCE", 1)
    monkeypatch.setitem(PREPARED, "quick", Part("Quick", command("touch", str(tmp_path / "made"))))
    (tmp_path / "Makefile").write_text(
        "first:\n\t@until test -e made; do sleep 0.1; done; sleep 0.5\nlong short:\n\t@echo $@ >> order\n"
    )
    await words(Stage("first"), Stage("long", needs=("quick",)), Stage("short"))
    assert (tmp_path / "order").read_text().split() == ["long", "short"]


async def test_a_stage_whose_need_cannot_be_made_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PREPARED, "broken", Part("Broken", command("sh", "-c", "echo no room on the disk; exit 1")))
    told = await words(Stage("good"), Stage("good", needs=("broken",)), Stage("good"))
    assert told == ["passed", "not run: Broken failed: no room on the disk", "passed"]
    assert "no room on the disk" in capsys.readouterr().err


def test_the_last_lines_of_a_failed_stage_stand_above_the_summary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "STAGES", (Stage("good"), Stage("bad"), Stage("good")))
    monkeypatch.setattr(sys, "argv", ["stages"])
    assert stages.main() == 1
    *_, reason, _make, _first, _second, _third, _sum = capsys.readouterr().out.splitlines()
    assert reason.endswith("│ broken")
