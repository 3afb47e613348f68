"""What an engine's processes print is remembered, passed on, and told to the container's log."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, subprocess, sys
from sundog_serving.output import Output
output = Output.tap()
assert Output.tap() is output
print("by python", flush=True)
os.write(2, b"to standard error\\n")
subprocess.run([sys.executable, "-c", "import sys; print('by a child', flush=True); sys.exit('dying words')"])
os.write(1, b"not ended")
first = output.lines()
os.write(1, b", now ended\\n" + b"\\xff broken text\\n")
for number in range(5000):
    os.write(1, b"line %d\\n" % number)
second = output.lines()
import json
open(sys.argv[1], "w").write(json.dumps([first, second]))
"""


def run(tmp_path: Path, **environ: str) -> tuple[list[str], list[str], str]:
    import json  # noqa: PLC0415

    answer = tmp_path / "answer.json"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(answer)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **environ},
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    first, second = json.loads(answer.read_text())
    return first, second, done.stdout


def test_lines_of_this_process_and_of_dead_children_are_remembered(tmp_path: Path) -> None:
    first, second, passed_on = run(tmp_path)
    assert first == ["by python", "to standard error", "by a child", "dying words", "not ended"]
    assert second[-1] == "line 4999"
    assert len(second) == 2000  # bounded, however much an engine prints
    assert "dying words" in passed_on
    assert "not ended, now ended" in passed_on
    assert "line 4999" in passed_on
    assert "\0" not in passed_on


def test_the_container_log_gets_a_copy(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    log.touch()
    _, _, passed_on = run(tmp_path, SUNDOG_CONTAINER_LOG=str(log))
    assert log.read_text(errors="replace") == passed_on


def test_a_container_log_that_cannot_be_opened_is_no_failure(tmp_path: Path) -> None:
    _, second, _ = run(tmp_path, SUNDOG_CONTAINER_LOG=str(tmp_path / "nowhere" / "log"))
    assert second[-1] == "line 4999"
