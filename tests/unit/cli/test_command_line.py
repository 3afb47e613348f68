"""The commands as a person meets them: their help, their exit codes, what they share with kubectl."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sundog_cli import reference
from sundog_cli.__main__ import main
from sundog_cli.cluster import sentence
from sundog_operator.api.generated import run
from sundog_operator.kube.errors import KubeError
from tests.docs_tests.test_docs import ROOT

COMMANDS = ("deploy", "status", "explain", "doctor", "chat", "logs", "render", "diff", "bench")


def test_the_reference_is_the_help_that_each_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    assert run(reference.reference(), module="m", arguments=["--check", str(ROOT / "docs/reference/cli.md")]) == 0
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert _words(capsys.readouterr().out) in _words(page)


def _words(text: str) -> str:
    return " ".join(text.split())


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    printed = capsys.readouterr()
    assert all(command in printed.out + printed.err for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["stauts"], ["deploy"], ["status", "--frobnicate"], ["bench", "x", "--rate=no"]])
def test_a_wrong_command_line_is_told_and_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_each_refusal_says_what_to_do() -> None:
    for status, words in {
        None: "Check the context",
        401: "log in again",
        403: "Ask for a role",
        409: "the server's words.",
    }.items():
        told = sentence(KubeError("the server's words.", status=status))
        assert words in told
        assert "the server's words" in told
        assert told.endswith(".")


def test_a_reader_that_goes_away_is_no_fault() -> None:
    command = f"{sys.executable} -m sundog_cli render -f examples/smollm2.yaml | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "operator", "PATH": "/usr/bin:/bin"},
    )
    assert "Traceback" not in done.stderr
