"""Install, upgrade, roll back and uninstall the chart on a real API server, with both versions of Helm in use."""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from tests.chart.rendering import CHART, NAMESPACE, ROOT
from tests.cluster import Cluster, ClusterError, tool
from tests.cluster.waiting import until

pytestmark = [pytest.mark.apiserver, pytest.mark.patient]

CRD = "llmdeployments.sundog.dev"
RELEASE = "sundog-life"
COUNT = 20
HELMS = ["helm", "helm3"]
# Namespaces end in their controller's own time.
END_SECONDS = 60.0
URL_COLUMN = "    - {name: URL,"
MINE = f"--selector=app.kubernetes.io/instance={RELEASE}"


@dataclass(frozen=True, slots=True)
class Release:
    """The chart as a release in a namespace of its own, which also has LLMDeployments."""

    cluster: Cluster
    program: Path
    namespace: str
    home: Path

    def helm(self, *arguments: str) -> None:
        """Run Helm, as a person with the cluster's kubeconfig would."""
        done = subprocess.run(
            [self.program, *arguments, f"--namespace={self.namespace}"],
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(self.cluster.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def install(self, chart: Path = CHART, *options: str) -> None:
        """Install it, and wait for the CRD to be served."""
        self.helm("install", RELEASE, str(chart), "--create-namespace", *options)
        self.cluster.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=60s")

    def uninstall(self) -> None:
        """Uninstall it."""
        self.helm("uninstall", RELEASE)

    def serve(self) -> None:
        """Make the LLMDeployments."""
        self.cluster.apply(
            [
                {
                    "apiVersion": "sundog.dev/v1alpha1",
                    "kind": "LLMDeployment",
                    "metadata": {"name": f"m{number}", "namespace": self.namespace},
                    "spec": {"model": {"uri": "hf://Qwen/Qwen3-0.6B"}},
                }
                for number in range(COUNT)
            ]
        )

    def resources(self) -> dict[str, tuple[str, str]]:
        """Give uid and resourceVersion of each LLMDeployment."""
        found = json.loads(self.cluster.kubectl("get", CRD, f"--namespace={self.namespace}", "--output=json"))["items"]
        return {one["metadata"]["name"]: (one["metadata"]["uid"], one["metadata"]["resourceVersion"]) for one in found}

    def columns(self) -> list[str]:
        """Give the columns of the CRD that is there."""
        found = json.loads(self.cluster.kubectl("get", "crd", CRD, "--output=json"))
        return [column["name"] for column in found["spec"]["versions"][0]["additionalPrinterColumns"]]

    def forget_resources(self) -> None:
        """Delete the LLMDeployments; with no operator there, nothing may hold them."""
        self.cluster.kubectl("delete", CRD, "--all", f"--namespace={self.namespace}", "--timeout=30s")

    def forget_crd(self) -> None:
        """Delete the CRD, and with it every LLMDeployment."""
        self.cluster.kubectl("delete", "crd", CRD, "--ignore-not-found", "--timeout=60s")

    def forget_namespace(self) -> None:
        """Delete the namespace, the release's Secrets included, and wait for its end."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=90s")

    def left(self) -> list[str]:
        """List what is left of it in the whole cluster."""
        kinds = "clusterroles,clusterrolebindings,roles,rolebindings,deployments,services,networkpolicies,crds"
        listed = self.cluster.kubectl("get", kinds, "--all-namespaces", MINE, "--output=name")
        return listed.split()


@pytest.fixture
def release(request: pytest.FixtureRequest, control_plane: Cluster, tmp_path: Path) -> Iterator[Release]:
    program = getattr(request, "param", HELMS[0])
    found = Release(control_plane, tool(program), f"life-{uuid.uuid4().hex[:8]}", tmp_path)
    yield found
    found.helm("uninstall", RELEASE, "--ignore-not-found")
    found.forget_crd()
    control_plane.kubectl("delete", "namespace", found.namespace, "--ignore-not-found", "--wait=false")


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The chart as a version before this one: another version, another image, a CRD that lacks something."""
    chart = tmp_path / "previous"
    shutil.copytree(CHART, chart)
    chart_yaml = chart / "Chart.yaml"
    chart_yaml.write_text(chart_yaml.read_text().replace("ersion: 0.1.0", "ersion: 0.0.9"))
    crd = chart / "files" / "llmdeployments.yaml"
    lines = crd.read_text().splitlines(keepends=True)
    crd.write_text("".join(line for line in lines if not line.startswith(URL_COLUMN)))
    return chart


@pytest.mark.parametrize("release", HELMS, indirect=True)
def test_no_upgrade_rollback_or_removal_touches_a_resource(release: Release, previous: Path) -> None:
    release.install(previous)
    release.serve()
    before = release.resources()
    assert len(before) == COUNT
    assert "URL" not in release.columns()

    release.helm("upgrade", RELEASE, str(CHART))
    assert "URL" in release.columns(), "the CRD is upgraded with the chart"
    assert release.resources() == before

    release.helm("rollback", RELEASE, "1")
    assert "URL" not in release.columns()
    assert release.resources() == before

    release.uninstall()
    assert release.left() == [f"customresourcedefinition.apiextensions.k8s.io/{CRD}"]
    assert release.resources() == before

    release.install()  # over the CRD that was kept
    assert "URL" in release.columns()
    assert release.resources() == before
    release.uninstall()
    release.forget_resources()


ORDERS: dict[str, tuple[Callable[[Release], None], ...]] = {
    "resources-chart-crd": (Release.forget_resources, Release.uninstall, Release.forget_crd),
    "chart-crd": (Release.uninstall, Release.forget_crd),
    "crd-chart": (Release.forget_crd, Release.uninstall),
    "chart-namespace-crd": (Release.uninstall, Release.forget_namespace, Release.forget_crd),
}


@pytest.mark.parametrize("release", HELMS, indirect=True)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_nothing_is_left_or_stuck_whatever_goes_first(
    release: Release, order: tuple[Callable[[Release], None], ...]
) -> None:
    release.install()
    release.serve()
    for step in order:
        step(release)
    assert release.left() == []


@pytest.mark.parametrize("release", HELMS, indirect=True)
def test_the_crd_goes_with_the_chart_when_it_is_not_to_be_kept(release: Release) -> None:
    release.install(CHART, "--set=crds.keep=false")
    release.serve()
    release.uninstall()
    assert until(lambda: release.left() == [], seconds=END_SECONDS)


def test_what_is_left_when_the_namespace_went_first_is_taken_over_and_removed(release: Release) -> None:
    release.install()
    release.serve()
    release.forget_namespace()  # the release's own record went with it
    assert release.left()
    release.install()
    release.uninstall()
    release.forget_crd()
    assert release.left() == []


def test_helm_test_names_what_is_missing_and_is_content_with_what_works(release: Release) -> None:
    def look(*url: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "sundog_operator.installed", *url],
            env={"PATH": "/usr/bin:/bin", "KUBECONFIG": str(release.cluster.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    code, said = look(f"http://127.0.0.1:{unused_port()}")
    assert code == 1
    assert "The operator does not answer at http://127.0.0.1" in said
    assert f"The cluster does not know {CRD}: set crds.enabled" in said
    release.install()
    assert look() == (0, "Sundog works: kubectl apply -f an LLMDeployment.\n")


def test_the_kustomize_base_installs_and_goes(control_plane: Cluster) -> None:
    base = f"--kustomize={ROOT / 'charts' / 'kustomize'}"
    # Other tests of this folder leave it to end in its own time.
    control_plane.kubectl("wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=60s")
    try:
        control_plane.kubectl("apply", base)
        control_plane.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=60s")
        again = control_plane.kubectl("apply", base).splitlines()
        assert [line for line in again if not line.endswith("unchanged")] == []
    finally:
        control_plane.kubectl("delete", base, "--timeout=90s", "--ignore-not-found")
    with pytest.raises(ClusterError, match="NotFound"):
        control_plane.kubectl("get", "crd", CRD)
