"""Each thing that a machine may lack is told in one sentence with its cure, and for real: no root, no Go, no disk."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.demo.preflight import required_go

ROOT = Path(__file__).parents[2]
NOBODY = 65534
# A system path without Go, whatever else this machine has in its own.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    *command: str, environment: Mapping[str, str] | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={
            "HOME": os.environ["HOME"] if user is None else "/nonexistent",
            "PATH": os.environ["PATH"],
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        user=user,
        group=user,
    )


def preflight(
    *, environment: Mapping[str, str] | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    # Debian's own interpreter: an ordinary user may not see the one of root's environment.
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else str(shutil.which("python3"))
    return run(python, "-B", "-m", "tests.demo.preflight", environment=environment, user=user)


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout.strip().splitlines()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, or mounts: needs root")


@needs_root
def test_an_ordinary_user_is_told_to_become_root_or_to_use_another_cluster() -> None:
    told = [line for line in sentences(preflight(user=NOBODY)) if "needs root" in line]
    assert len(told) == 1
    assert "SUNDOG_USE_EXISTING_CLUSTER=1" in told[0]


def test_a_machine_without_go_is_told_which_go_it_needs() -> None:
    told = [line for line in sentences(preflight(environment={"PATH": SYSTEM_PATH})) if line.startswith("Go ")]
    assert len(told) == 1
    assert required_go() in told[0]


def test_a_go_that_is_too_old_is_told_where_it_stands_and_what_is_needed(tmp_path: Path) -> None:
    old = tmp_path / "go"
    # What Debian 12's Go 1.19 answers in a module for a newer one.
    old.write_text('#!/bin/sh\n[ "$1" = version ] && echo "go version go1.19.8 linux/amd64" && exit\nexit 1\n')
    old.chmod(0o755)
    told = [line for line in sentences(preflight(environment={"PATH": f"{tmp_path}:{SYSTEM_PATH}"})) if "Go" in line]
    assert len(told) == 1
    assert "go1.19.8" in told[0]
    assert str(old) in told[0]
    assert required_go() in told[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@needs_root
def test_a_full_disk_is_told_with_its_place_and_what_is_needed(small_disk: Path) -> None:
    told = [line for line in sentences(preflight(environment={"XDG_CACHE_HOME": str(small_disk)})) if "disk" in line]
    assert len(told) == 1
    assert str(small_disk) in told[0]
    assert "20 GB" in told[0]
    assert "XDG_CACHE_HOME" in told[0]


@needs_root
def test_all_that_is_missing_is_told_at_once() -> None:
    told = sentences(preflight(environment={"PATH": SYSTEM_PATH}, user=NOBODY))
    assert len(told) == 2
    assert "root" in told[0]
    assert "Go" in told[1]


def test_an_old_python_is_told_before_anything_else(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    # Exits 1 as an old one would when asked whether it is new enough.
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit\nexit 1\n')
    old.chmod(0o755)
    done = run("make", "preflight", environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert "Sundog needs Python 3.11 or newer as python3 (found: Python 3.9.2)" in done.stdout
    assert done.returncode == 2


def test_a_port_in_use_is_told_with_its_holder_and_how_to_choose_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run(str(ROOT / ".venv/bin/python"), "-m", "tests.demo", "up", environment={"PORT": str(port)})
    assert done.returncode == 1
    told = done.stdout.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"error: Port {port} is held by process {os.getpid()} (")
    assert told[0].endswith(f"make demo PORT={port + 1}")


def test_a_cluster_without_a_kubeconfig_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    environment = {"SUNDOG_USE_EXISTING_CLUSTER": "1", "KUBECONFIG": str(tmp_path / "none")}
    done = run(str(ROOT / ".venv/bin/python"), "-m", "tests.demo", "up", environment=environment)
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stdout
    assert "set KUBECONFIG" in done.stdout
