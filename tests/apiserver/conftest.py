"""A real API server for all tests below: etcd, kube-apiserver and controller-manager, started once per session."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from sundog_operator.api.crd import custom_resource_definition
from sundog_operator.api.types import GROUP
from tests.cluster import Cluster, Level, down, use_existing
from tests.cluster.plan import every_plan
from tests.cluster.waiting import until

PREFIX = "sundog-apiserver-"


def _sweep() -> None:
    """Take away what sessions left behind that were killed; each cluster's name carries its session's process id."""
    for plan in every_plan():
        process = plan.name.removeprefix(PREFIX)
        if plan.name.startswith(PREFIX) and process.isdigit() and not Path(f"/proc/{process}").exists():
            down(plan.name)


def _install_crd(cluster: Cluster) -> None:
    crd = custom_resource_definition()
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(crd))
    # kubectl keeps what it has seen of an API server on disk, and its categories come from there alone.
    listed = ("api-resources", f"--api-group={GROUP}", "--output=name")
    assert until(lambda: crd["metadata"]["name"] in cluster.kubectl(*listed), seconds=120)
    # Known is not served yet ("storage is (re)initializing"): kubectl asks until it is.
    cluster.kubectl("get", crd["metadata"]["name"], "--all-namespaces")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A control plane with the CRD installed; its name is the session's own, so that sessions may run side by side."""
    if use_existing():
        made = Cluster.existing()
    else:
        _sweep()
        made = Cluster.up(f"{PREFIX}{os.getpid()}", level=Level.CONTROL_PLANE)
    try:
        _install_crd(made)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[kubernetes.client.ApiClient]:
    """The generated client, as administrator."""
    loaded: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    configuration = kubernetes.client.Configuration()
    configuration.no_proxy = "*"
    kubernetes.config.load_kube_config_from_dict(loaded, client_configuration=configuration)
    with kubernetes.client.ApiClient(configuration) as client:
        yield client


@pytest.fixture
def namespace(api: kubernetes.client.ApiClient) -> Iterator[str]:
    """A namespace of the test's own."""
    core = kubernetes.client.CoreV1Api(api)
    name = f"test-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)
