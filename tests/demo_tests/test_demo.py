"""`make demo`, whole: interrupted at its worst moments, to an answer, again, and away."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.cluster import Cluster
from tests.images import TAGS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
NAME = "demo-test"


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module", autouse=True)
def away(port: int) -> Iterator[None]:
    """Begin without a cluster, and leave none behind."""
    demo("down", port=port)
    yield
    demo("down", port=port)


def environment(port: int, *, acts: int = 1) -> dict[str, str]:
    own = {"SUNDOG_DEMO_NAME": NAME, "PORT": str(port), "ACTS": str(acts), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **own}


def demo(command: str, *, port: int, acts: int = 1) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo", command],
        cwd=ROOT,
        env=environment(port, acts=acts),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    return done


def interrupt_at(text: str, *, port: int) -> None:
    """Start the demo, and press Ctrl-C when it prints a text."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.demo", "up"],
        cwd=ROOT,
        env=environment(port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        shown = []
        pressed = False
        for line in process.stdout:
            shown.append(line)
            if text in line and not pressed:
                pressed = True
                os.killpg(process.pid, signal.SIGINT)
        print("".join(shown))
    assert pressed
    assert "Traceback" not in "".join(shown)
    assert process.returncode == 130, shown[-1]


def test_demo_answers_after_any_interruption_and_again_under_load_and_leaves_nothing(port: int) -> None:
    """One story, since each chapter goes on with the cluster and the engine of the one before."""
    for text in ("Debian packages ...", "Kubernetes: API server", "Images into the node ...", "helm upgrade"):
        interrupt_at(text, port=port)
    interrupt_at("kubectl wait", port=port)

    first = demo("up", port=port)
    assert first.returncode == 0
    assert "Paris" in first.stdout
    assert f"http://127.0.0.1:{port}/v1" in first.stdout

    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none is needed") as client:
        assert [model.id for model in client.models.list()] == ["smollm2"]

    began = time.monotonic()
    second = demo("up", port=port)
    assert second.returncode == 0
    assert "Paris" in second.stdout
    print(f"the second demo took {time.monotonic() - began:.0f} s")

    second_act(demo("up", port=port, acts=2))

    down = demo("down", port=port)
    assert down.returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def second_act(shown: subprocess.CompletedProcess[str]) -> None:
    """The autoscaler adds a replica and takes it away, and no stream is cut."""
    assert shown.returncode == 0
    assert "2 asked, 2 ready" in shown.stdout
    assert "replicas 1 → 2 by HorizontalPodAutoscaler: ongoing_requests is " in shown.stdout
    assert "replicas 2 → 1 by HorizontalPodAutoscaler: ongoing_requests is " in shown.stdout
    streams = re.search(r"(\d+) streams: (\d+) whole, 0 cut, 0 refused or failed; first token p99 ", shown.stdout)
    assert streams
    assert streams[1] == streams[2]
    assert int(streams[1]) > 30
    picture = re.search(r"latency over time: (\S+\.svg)", shown.stdout)
    assert picture
    assert "ongoing" in Path(picture[1]).read_text()
    assert "kubectl get llmdeploy" in shown.stdout  # it still says how to go on


def use(cluster: Cluster, environ: pytest.MonkeyPatch) -> None:
    """Take a cluster for somebody else's."""
    environ.setenv("SUNDOG_USE_EXISTING_CLUSTER", "1")
    environ.setenv("KUBECONFIG", str(cluster.kubeconfig))
    for name, tag in TAGS.items():
        environ.setenv(f"SUNDOG_{name.upper()}_IMAGE", tag)


def test_demo_uses_a_cluster_that_a_person_has(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told what it lacks, then used, and what the demo brought is taken away again."""
    demo("down", port=port)
    cluster = Cluster.up(NAME)
    with monkeypatch.context() as theirs:
        use(cluster, theirs)
        lacking = demo("up", port=port)
        assert lacking.returncode == 1
        assert "has no claim models in namespace default" in lacking.stdout

    assert demo("up", port=port).returncode == 0  # it offers the claims, and loads the images

    with monkeypatch.context() as theirs:
        use(cluster, theirs)
        answered = demo("up", port=port)
        assert "Paris" in answered.stdout
        assert demo("down", port=port).returncode == 0
    assert cluster.kubectl("get", "llmdeployments", "--all-namespaces", "--output=name") == ""
    assert cluster.kubectl("get", "deployments", "--namespace=sundog-system", "--output=name") == ""
