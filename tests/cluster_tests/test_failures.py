"""Every failure is one sentence with cause and cure."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, ClusterError, Level, builds, folders, packages, plan, versions

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def run(*arguments: str, cache: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "PATH": path or os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "tests.cluster", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def not_root() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("not_root")
def test_a_node_without_root() -> None:
    with pytest.raises(
        ClusterError, match=r"^A full node needs root, .*, or use --level control-plane, which needs none\.$"
    ):
        Cluster.up("none", level=Level.NODE)


def test_no_go(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run("build", "kubectl", cache=tmp_path, path=str(tmp_path / "bin"))
    assert "Go is not installed" in one_sentence(done)
    assert f"needs Go {builds.required_go(folders.COMPONENTS)} or newer" in done.stderr


def test_a_cluster_that_could_not_be_built_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run("up", "--level", "control-plane", cache=tmp_path, path=str(tmp_path / "bin"))
    assert "Go is not installed" in one_sentence(done)
    assert run("status", cache=tmp_path).stdout == "There is no cluster.\n"


def test_go_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTOOLCHAIN", "local")
    shutil.copytree(folders.COMPONENTS, tmp_path / "components")
    module = tmp_path / "components" / "go.mod"
    module.write_text(module.read_text().replace(f"go {builds.required_go(module.parent)}", "go 1.999", 1))
    monkeypatch.setattr(folders, "COMPONENTS", module.parent)
    with pytest.raises(ClusterError, match=r"^Go is too old: .*requires go >= 1\.999.*install a newer one\.$"):
        builds.build(programs=["pause"])


def test_too_little_disk(tmp_path: Path) -> None:
    with pytest.raises(
        ClusterError,
        match=rf"^A cluster needs 1e\+09 GiB free in {tmp_path}/new, and there are [\d.]+ GiB: .*XDG_CACHE_HOME",
    ):
        folders.require_space(tmp_path / "new", gibibytes=1e9, purpose="A cluster")


def test_missing_debian_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.CONTROL_PLANE, "no-such-package", "no-such-program")
    with pytest.raises(ClusterError, match=r"missing: no-such-package; install .*tests\.cluster packages"):
        packages.require(Level.CONTROL_PLANE)


def test_an_unknown_program() -> None:
    with pytest.raises(ClusterError, match=r"^there is no program 'kubeadm' to build: there are etcd, "):
        builds.build(programs=["kubeadm"])


@pytest.mark.parametrize("name", ["Upper", "-dash", "dash-", "with space", "a" * 40, "..", ""])
def test_a_name_that_is_unfit(name: str) -> None:
    with pytest.raises(ClusterError, match="is no name for a cluster"):
        plan.choose(name=name, level=Level.CONTROL_PLANE, kubernetes_version=versions.KUBERNETES_VERSION, kwok=False)


def test_a_version_that_is_none() -> None:
    with pytest.raises(ClusterError, match=r"'1\.34' is no Kubernetes version"):
        versions.module_folder("1.34")


def test_using_a_cluster_that_does_not_exist(tmp_path: Path) -> None:
    done = run("kubeconfig", "--name", "none", cache=tmp_path)
    assert "There is no cluster none" in one_sentence(done)


def test_down_when_there_is_nothing(tmp_path: Path) -> None:
    done = run("down", "--name", "none", cache=tmp_path)
    assert (done.returncode, done.stdout) == (0, "There is no cluster none.\n")


def test_status_when_there_is_nothing(tmp_path: Path) -> None:
    done = run("status", cache=tmp_path)
    assert (done.returncode, done.stdout) == (0, "There is no cluster.\n")
