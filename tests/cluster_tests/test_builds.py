import shutil
import threading
from pathlib import Path

import pytest

from tests.cluster import ClusterError, builds, folders, versions
from tests.cluster.progress import PlainProgress

UPSTREAM = """\
module k8s.io/kubernetes

go 1.24.0

godebug default=go1.24

require (
\tgo.etcd.io/etcd/client/v3 v3.6.4
\tk8s.io/api v0.0.0
)

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/client-go => ./staging/src/k8s.io/client-go
)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the Go module, and a cache of its own."""
    copied = tmp_path / "components"
    shutil.copytree(folders.COMPONENTS, copied)
    monkeypatch.setattr(folders, "COMPONENTS", copied)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copied


def test_what_is_built_is_kept_and_not_built_again(module: Path) -> None:
    assert module
    first = builds.tool("pause")
    stamp = first.stat().st_mtime_ns
    assert builds.tool("pause") == first
    assert first.stat().st_mtime_ns == stamp


def test_a_change_of_the_source_makes_a_new_program_and_keeps_the_old(module: Path) -> None:
    first = builds.tool("pause")
    source = module / "pause" / "main.go"
    source.write_text(source.read_text() + "\n// changed\n")
    second = builds.tool("pause")
    assert second != first
    assert first.exists()


def test_a_leftover_of_an_interrupted_build_does_no_harm(module: Path) -> None:
    assert module
    leftover = folders.binaries() / ".unfinished"
    leftover.mkdir(parents=True)
    (leftover / "pause").write_text("half a program")
    assert builds.tool("pause").stat().st_size > 1_000_000
    assert not leftover.exists()


def test_two_builds_at_once_wait_for_each_other(module: Path) -> None:
    assert module
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(builds.tool("pause"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert found[0].exists()


def test_a_source_that_does_not_compile_is_told_with_its_line(module: Path) -> None:
    (module / "pause" / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    with pytest.raises(ClusterError, match=r"go build of pause failed: .*main\.go:3:\d+: undefined: nonsense"):
        builds.build(PlainProgress(), programs=["pause"])


def test_go_mod_of_another_version_is_derived_from_kubernetes_own() -> None:
    written = versions.go_mod("1.34.2", UPSTREAM)
    assert "go 1.24.0\ngodebug default=go1.24\n" in written
    assert "\tk8s.io/kubernetes v1.34.2\n" in written
    assert "\tgo.etcd.io/etcd/server/v3 v3.6.4\n" in written
    assert "\tk8s.io/client-go => k8s.io/client-go v0.34.2\n" in written
