"""A full node with Sundog installed by its chart; one for all end-to-end tests, left up for the next run."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, Level, use_existing
from tests.demo.chart import chosen_images, own_images, upgrade
from tests.demo.kubernetes import programs
from tests.e2e.site import Site
from tests.images import images


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder needs a node."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A node with the images of this checkout; `SUNDOG_KEEP_CLUSTER=1` leaves it up afterwards."""
    if use_existing():
        yield Cluster.existing()
        return
    found = Cluster.up(name="sundog-e2e", level=Level.NODE)
    try:
        for archive in images().values():
            found.load_image(archive)
        yield found
    finally:
        if not os.environ.get("SUNDOG_KEEP_CLUSTER"):
            found.down(keep_logs=True)


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The chart, installed with Helm's own `--wait`."""
    found = programs(cluster.kubeconfig, prefer_installed=False)
    wanted = chosen_images() if use_existing() else own_images(found.kubeconfig)
    command = [str(part) for part in upgrade(found, wanted)]
    done = subprocess.run(command, env={**os.environ, **found.environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"helm said: {done.stderr or done.stdout}"
    return cluster


@pytest.fixture
def site(installed: Cluster) -> Iterator[Site]:
    """A namespace that enforces the restricted pod security level, and what a person would do in it."""
    name = f"e2e-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    installed.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    found = Site(installed, name)
    try:
        yield found
    finally:
        found.report()
        # First these: a namespace looks at what is left in it again only after half of its pods' grace time.
        found.kubectl("delete", "llmdeployments", "--all", "--wait=false")
        installed.kubectl("delete", "namespace", name, "--wait=false")
