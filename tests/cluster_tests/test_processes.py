import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import waiting
from tests.cluster.errors import ClusterError
from tests.cluster.plan import require_port
from tests.cluster.processes import Daemon, children, last_telling_line, stat


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon("sleeper", tmp_path / "run" / "sleeper.json", tmp_path / "log" / "sleeper.log")


def start(daemon: Daemon, script: str) -> None:
    daemon.start(["/bin/sh", "-c", script], environment={"PATH": os.environ["PATH"]})


def test_a_daemon_is_found_again_by_its_record(daemon: Daemon) -> None:
    start(daemon, "echo hello; exec sleep 60")
    again = Daemon(daemon.name, daemon.record, daemon.log)
    assert again.running
    assert waiting.until(lambda: daemon.log.read_text() == "hello\n", seconds=5)
    again.stop()
    assert not daemon.running
    assert daemon.pid is None


def test_stopping_ends_children_too_and_is_safe_to_repeat(daemon: Daemon) -> None:
    start(daemon, "sleep 60 & sleep 60")
    leader = daemon.pid
    assert leader is not None
    assert waiting.until(lambda: len(children(leader)) == 2, seconds=5)
    below = children(leader)
    daemon.stop()
    daemon.stop()
    assert all((found := stat(pid)) is None or found.state == "Z" for pid in below)


def test_a_daemon_that_ignores_the_request_to_end_is_killed(daemon: Daemon) -> None:
    start(daemon, "trap '' TERM; echo ready; while :; do sleep 1; done")
    assert waiting.until(lambda: "ready" in daemon.log.read_text(), seconds=5)
    daemon.stop(grace=0.2)
    assert not daemon.running


def test_pausing_and_going_on(daemon: Daemon) -> None:
    start(daemon, "exec sleep 60")
    daemon.pause()
    assert waiting.until(lambda: daemon.paused, seconds=5)
    assert daemon.running
    daemon.resume()
    assert waiting.until(lambda: not daemon.paused, seconds=5)
    daemon.stop()


def test_a_pid_that_was_given_to_another_process_is_never_signalled(daemon: Daemon) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        daemon.record.parent.mkdir(parents=True)
        daemon.record.write_text(f'{{"pid": {other.pid}, "started": 1}}')
        assert not daemon.running
        daemon.kill()
        assert other.poll() is None
        other.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("log", "telling"),
    [
        (
            "I0101 00:00:00.1 1 a.go:1] starting\nE0101 00:00:00.2 1 run.go:72] no such file\nI0101 more\n",
            "no such file",
        ),
        ("starting\nstopping\n", "stopping"),
        ("", "its log is empty"),
    ],
)
def test_the_line_of_a_log_that_says_why(tmp_path: Path, log: str, telling: str) -> None:
    (tmp_path / "a.log").write_text(log)
    assert last_telling_line(tmp_path / "a.log") == telling


def test_a_port_in_use_is_told_with_its_holder() -> None:
    program = (
        "import socket,sys; s=socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(
            ClusterError, match=rf"^Port {port} is in use by process {holder.pid} \(.*python.*\): .*--api-port"
        ):
            require_port(port)
        holder.communicate("\n")


def test_a_free_port_is_no_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    require_port(port)
