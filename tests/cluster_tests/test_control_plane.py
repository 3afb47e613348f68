import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich

from tests.cluster import KUBERNETES_VERSION, Cluster, ClusterError, Level, down, tool, waiting
from tests.cluster.components import Components, names
from tests.cluster.plan import Plan
from tests.cluster.processes import stat

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def pids(name: str) -> dict[str, int | None]:
    plan = Plan.load(name)
    assert plan is not None
    return {component: Components(plan, {}).daemon(component).pid for component in names(plan)}


def test_controllers_work(control_plane: Cluster) -> None:
    control_plane.kubectl("create", "deployment", "web", "--image=none", "--replicas=2")
    assert waiting.until(
        lambda: len(control_plane.kubectl("get", "pods", "-l=app=web", "-o=name").split()) == 2, seconds=30
    )
    control_plane.kubectl("delete", "deployment", "web", "--cascade=background")
    assert waiting.until(lambda: not control_plane.kubectl("get", "pods", "-l=app=web", "-o=name"), seconds=30)


def test_the_aggregation_layer_has_its_certificates(control_plane: Cluster) -> None:
    kept = json.loads(
        control_plane.kubectl("get", "configmap", "extension-apiserver-authentication", "-n=kube-system", "-o=json")
    )["data"]
    assert kept["requestheader-allowed-names"] == '["front-proxy-client"]'
    assert kept["requestheader-client-ca-file"] != kept["client-ca-file"]


@pytest.fixture
def cache_of_nobody(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[Path]:
    """A cache that belongs to an ordinary user, with the programs that are built already: building takes minutes."""
    built = tool("etcd").parent
    with tempfile.TemporaryDirectory() as made:  # pytest's own folder is closed to other users
        cache = Path(made)
        shutil.copytree(built, cache / "sundog" / "bin" / built.name, symlinks=True)
        for folder in (cache, cache / "sundog"):
            os.chown(folder, NOBODY, NOBODY)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        yield cache
        down(name)


def as_nobody(*arguments: str, cache: Path) -> str:
    """Run the command line as a user who has nothing but a cache."""
    done = subprocess.run(
        # Debian's interpreter: the one of the environment may stand in root's home.
        ["/usr/bin/python3", "-m", "tests.cluster", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(cache),
            "XDG_CACHE_HOME": str(cache),
            "PYTHONPATH": str(Path(rich.__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "KUBERNETES_VERSION": KUBERNETES_VERSION,
        },
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_brings_it_up_and_takes_it_down(name: str, cache_of_nobody: Path) -> None:
    told = as_nobody("up", "--level", "control-plane", "--name", name, cache=cache_of_nobody)
    kubeconfig = cache_of_nobody / "sundog" / "clusters" / name / "kubeconfig"
    assert f"export KUBECONFIG={kubeconfig}" in told
    assert Cluster.existing(kubeconfig).kubectl("get", "--raw=/readyz") == "ok"
    started = [pid for pid in pids(name).values() if pid]
    assert [Path(f"/proc/{pid}").stat().st_uid for pid in started] == [NOBODY] * 4
    assert as_nobody("down", "--name", name, cache=cache_of_nobody) == f"Cluster {name} is down.\n"
    # A zombie is for process 1 to bury, whose children they are.
    assert not [found for found in map(stat, started) if found and found.living]
    assert not kubeconfig.parent.exists()


def status_of(name: str) -> str:
    """Give a cluster's row of what `status` shows."""
    command = [sys.executable, "-m", "tests.cluster", "status"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (row,) = (line for line in told.splitlines() if line.split()[0] == name)
    return row


def test_status_counts_the_components_that_are_up_and_names_the_others(control_plane: Cluster) -> None:
    row = status_of(control_plane.plan.name)
    assert "4 of 4 up" in row
    assert control_plane.plan.api_url in row
    assert str(control_plane.kubeconfig) in row
    control_plane.pause_component("kube-scheduler")
    assert "3 of 4 up; paused: kube-scheduler  " in status_of(control_plane.plan.name)
    control_plane.start_component("kube-scheduler")
    assert "4 of 4 up  " in status_of(control_plane.plan.name)
    control_plane.stop_component("kube-scheduler")
    assert "3 of 4 up; down: kube-scheduler  " in status_of(control_plane.plan.name)
    control_plane.start_component("kube-scheduler")


def test_up_twice_changes_nothing(control_plane: Cluster) -> None:
    before = pids(control_plane.plan.name)
    again = Cluster.up(control_plane.plan.name, level=Level.CONTROL_PLANE)
    assert pids(control_plane.plan.name) == before
    assert again.kubeconfig == control_plane.kubeconfig


def test_two_run_side_by_side_and_down_leaves_nothing_of_one(control_plane: Cluster, name: str) -> None:
    other = Cluster.up(name, level=Level.CONTROL_PLANE)
    assert other.plan.api_url != control_plane.plan.api_url
    started = [pid for pid in pids(name).values() if pid]
    assert len(started) == 4
    assert down(name)
    assert not down(name)
    assert not any(stat(pid) for pid in started)
    assert not other.plan.folder.exists()
    assert control_plane.kubectl("get", "--raw=/readyz") == "ok"


def test_up_repairs_what_crashed(name: str) -> None:
    cluster = Cluster.up(name, level=Level.CONTROL_PLANE)
    cluster.kubectl("create", "namespace", "kept")
    for component in ("etcd", "kube-apiserver"):
        pid = pids(name)[component]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert waiting.until(lambda: pids(name)["etcd"] is None, seconds=10)
    assert (
        Cluster.up(name, level=Level.CONTROL_PLANE).kubectl("get", "namespace", "kept", "-o=name") == "namespace/kept\n"
    )


def test_the_api_server_can_be_paused_and_stopped_for_a_while(control_plane: Cluster) -> None:
    control_plane.pause_component("kube-apiserver")
    with pytest.raises(ClusterError, match="kubectl get namespaces"):
        control_plane.kubectl("get", "namespaces", "--request-timeout=1s")
    control_plane.start_component("kube-apiserver")
    assert control_plane.kubectl("get", "--raw=/readyz") == "ok"
    control_plane.stop_component("kube-apiserver")
    with pytest.raises(ClusterError, match="refused"):
        control_plane.kubectl("get", "namespaces")
    control_plane.start_component("kube-apiserver")
    assert control_plane.kubectl("get", "--raw=/readyz") == "ok"


def test_an_unknown_component_is_told_with_those_there_are(control_plane: Cluster) -> None:
    with pytest.raises(ClusterError, match="no component 'kubelet': it has etcd, kube-apiserver"):
        control_plane.stop_component("kubelet")


def test_a_claim_binds_at_once_and_its_volume_is_used_again(control_plane: Cluster) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    control_plane.apply([claim])
    control_plane.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", "--timeout=30s")
    volume = control_plane.kubectl("get", "pvc", "data", "-o=jsonpath={.spec.volumeName}")
    left = control_plane.plan.folder / "volumes" / volume / "left"
    left.write_text("behind")
    control_plane.kubectl("delete", "pvc", "data")
    control_plane.kubectl("wait", "--for=jsonpath={.status.phase}=Released", f"pv/{volume}", "--timeout=30s")
    Cluster.up(control_plane.plan.name, level=Level.CONTROL_PLANE)
    control_plane.kubectl("wait", "--for=jsonpath={.status.phase}=Available", f"pv/{volume}", "--timeout=30s")
    assert not left.exists()


def test_a_component_that_dies_at_start_is_told_with_its_last_words(name: str) -> None:
    cluster = Cluster.up(name, level=Level.CONTROL_PLANE)
    cluster.stop_component("kube-apiserver")
    (cluster.plan.folder / "pki" / "apiserver.key").write_text("no key")
    log = cluster.plan.folder / "log" / "kube-apiserver.log"
    with pytest.raises(
        ClusterError, match=rf"^kube-apiserver ended at its start: .*failed to find any PEM data.* \(log: {log}\)\.$"
    ):
        Cluster.up(name, level=Level.CONTROL_PLANE)


def test_a_port_that_was_asked_for_and_is_taken(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"^Port {port} is in use by process {os.getpid()} "):
            Cluster.up(name, level=Level.CONTROL_PLANE, api_port=port)


def test_another_level_under_the_same_name_is_refused(control_plane: Cluster) -> None:
    with pytest.raises(
        ClusterError, match=f"exists with level control-plane and Kubernetes {KUBERNETES_VERSION}: take it down first"
    ):
        Cluster.up(control_plane.plan.name, level=Level.CONTROL_PLANE, kubernetes_version="1.36.0")


def test_fake_nodes_make_pods_ready(name: str) -> None:
    cluster = Cluster.up(name, level=Level.CONTROL_PLANE, kwok=True)
    cluster.add_fake_nodes(3, gpus=8, labels={"zone": "a"})
    capacity = cluster.kubectl("get", "node", "fake-2", r"-o=jsonpath={.status.allocatable.nvidia\.com/gpu}")
    assert capacity == "8"
    cluster.kubectl("create", "deployment", "many", "--image=none", "--replicas=50")
    cluster.kubectl("rollout", "status", "deployment/many", "--timeout=60s")


def test_fake_nodes_need_kwok(control_plane: Cluster) -> None:
    with pytest.raises(ClusterError, match="bring it up with --kwok"):
        control_plane.add_fake_nodes(1)


def test_an_existing_cluster_is_left_alone(control_plane: Cluster) -> None:
    existing = Cluster.existing(control_plane.kubeconfig)
    assert existing.kubectl("get", "--raw=/readyz") == "ok"
    existing.down()
    assert control_plane.kubectl("get", "--raw=/readyz") == "ok"
    with pytest.raises(ClusterError, match="not run from here"):
        existing.stop_component("etcd")


def test_an_existing_cluster_needs_its_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=f"There is no kubeconfig {tmp_path}/none: set KUBECONFIG"):
        Cluster.existing(tmp_path / "none")
