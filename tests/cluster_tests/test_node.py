import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.cluster import Cluster, Level, cgroups, down, tool, waiting
from tests.cluster.components import Components, names
from tests.cluster.node import program_archive
from tests.cluster.plan import Plan
from tests.cluster_tests.conftest import existing_habits

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="a full node needs root")]

IMAGE = "localhost/sundog-probe:1"


def web(**pod: Any) -> list[dict[str, Any]]:
    """A web server and its Service, as the restricted pod security level wants them."""
    container = {
        "name": "web",
        "image": IMAGE,
        "args": ["serve", ":8080"],
        "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **pod.pop("container", {}),
    }
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "probe", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "probe"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "securityContext": security,
                        "terminationGracePeriodSeconds": 1,
                        "containers": [container],
                        **pod,
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "probe"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


def load_probe(cluster: Cluster, folder: Path) -> None:
    archive = folder / "probe.tar"
    program_archive(tool("probe"), archive, image=IMAGE)
    assert cluster.load_image(archive) == [IMAGE]


def get(cluster: Cluster, *output: str) -> str:
    return cluster.kubectl("get", "--namespace=probe", *output)


def fetch(url: str) -> str:
    with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:
        return str(answer.read().decode())


def service_answers(cluster: Cluster) -> bool:
    try:
        return "uid 1000" in fetch(f"http://{get(cluster, 'service/web', '-o=jsonpath={.spec.clusterIP}')}/")
    except OSError:
        return False


@pytest.fixture(scope="session")
def serving(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The shared node with two web servers on it."""
    load_probe(node, tmp_path_factory.mktemp("image"))
    node.apply(web())
    node.kubectl("rollout", "status", "deployment/web", "--namespace=probe", "--timeout=60s")
    # A Service's address leads nowhere until kube-proxy has heard of its pods.
    assert waiting.until(lambda: service_answers(node), seconds=60)
    return node


@pytest.fixture
def page(serving: Cluster, tmp_path: Path) -> Iterator[str]:
    """A page served on the host's end of the node's network."""
    (tmp_path / "page").write_text("from the host")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            pass

    with ThreadingHTTPServer((serving.host_ip, 0), partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{serving.host_ip}:{server.server_port}/page"
        server.shutdown()
        thread.join()


def test_the_host_reaches_pods_and_services(serving: Cluster) -> None:
    for address in get(serving, "pods", "-l=app=web", "-o=jsonpath={.items[*].status.podIP}").split():
        assert "uid 1000" in fetch(f"http://{address}:8080/")
    assert service_answers(serving)


def test_pods_reach_services_by_name_and_the_host(serving: Cluster, page: str) -> None:
    pod = get(serving, "pods", "-l=app=web", "-o=jsonpath={.items[0].metadata.name}")
    inside = ("exec", "--namespace=probe", pod, "--", "/probe", "get")
    for url in ("http://web/", "http://web.probe.svc.cluster.local/"):
        assert "uid 1000" in serving.kubectl(*inside, url)
    assert serving.kubectl(*inside, page) == "from the host"


def test_up_on_a_running_node_changes_nothing(serving: Cluster) -> None:
    plan = serving.plan
    own = Components(plan, {})
    before = {name: own.daemon(name).pid for name in names(plan)}
    settings = {path: path.stat().st_mtime_ns for path in plan.folder.iterdir() if path.is_file()}
    Cluster.up(plan.name, level=Level.NODE)
    assert {name: own.daemon(name).pid for name in names(plan)} == before
    assert {path: path.stat().st_mtime_ns for path in settings} == settings


def test_an_image_that_is_there_is_not_loaded_again(serving: Cluster, tmp_path: Path) -> None:
    record = serving.plan.folder / "images.json"
    before = record.stat().st_mtime_ns
    load_probe(serving, tmp_path)
    assert record.stat().st_mtime_ns == before
    assert IMAGE in json.loads(record.read_text())


def test_a_folder_of_the_host_is_a_volume(serving: Cluster, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "program").write_bytes(tool("probe").read_bytes())
    (tmp_path / "program").chmod(0o755)
    serving.host_path_volume("folder", tmp_path, "probe", "folder", read_only=True)
    serving.host_path_volume("folder", tmp_path, "probe", "folder", read_only=True)
    manifests = web(
        container={
            "command": ["/folder/program"],
            "volumeMounts": [{"name": "folder", "mountPath": "/folder", "readOnly": True}],
        },
        volumes=[{"name": "folder", "persistentVolumeClaim": {"claimName": "folder", "readOnly": True}}],
    )
    manifests[1]["metadata"]["name"] = "mounting"
    manifests[1]["spec"]["selector"]["matchLabels"] = manifests[1]["spec"]["template"]["metadata"]["labels"] = {
        "app": "mounting"
    }
    serving.apply(manifests[:2])
    serving.kubectl("rollout", "status", "deployment/mounting", "--namespace=probe", "--timeout=60s")
    serving.kubectl("delete", "deployment", "mounting", "--namespace=probe")


def test_a_node_survives_a_crash_and_leaves_no_trace_beside_another_node(
    serving: Cluster, name: str, tmp_path: Path
) -> None:
    cluster = Cluster.up(name, level=Level.NODE)
    load_probe(cluster, tmp_path)
    cluster.apply(web())
    cluster.kubectl("rollout", "status", "deployment/web", "--namespace=probe", "--timeout=60s")
    plan = Plan.load(name)
    assert plan is not None
    assert plan.network is not None
    leader = Components(plan, {}).daemon("node").pid
    assert leader is not None
    os.kill(leader, signal.SIGKILL)
    assert waiting.until(lambda: not Components(plan, {}).daemon("containerd").running, seconds=10)

    Cluster.up(name, level=Level.NODE)
    assert waiting.until(lambda: service_answers(cluster), seconds=60)

    assert down(name)
    assert not down(name)
    assert not plan.folder.exists()
    assert name not in Path("/proc/mounts").read_text()
    routes = subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout
    routes += subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    assert plan.network.interface not in routes
    assert not list(cgroups.ROOT.glob(f"**/*{cgroups.group(name)[1:]}"))
    assert service_answers(serving)


def test_the_host_sees_nothing_of_what_daemons_write_by_habit(serving: Cluster, habits_before: set[str]) -> None:
    assert serving.kubectl("get", "--raw=/readyz") == "ok"
    assert existing_habits() == habits_before
