"""Clusters for the tests of the test cluster itself."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, Level, down


def _name(kind: str) -> str:
    return f"selftest-{kind}-{os.getpid()}"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """A control plane alone, shared by all tests."""
    name = _name("cp")
    try:
        yield Cluster.up(name, level=Level.CONTROL_PLANE)
    finally:
        down(name)


# Where the daemons of a node write by habit; the host must see none of it.
HABITS = (
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/run/containerd",
    "/var/log/pods",
    "/etc/cni",
    "/opt/containerd",
)


def existing_habits() -> set[str]:
    """List which of the places of habit exist on the host."""
    return {path for path in HABITS if Path(path).exists()}


@pytest.fixture(scope="session")
def habits_before() -> set[str]:
    """What existed before the first node: a machine may have a containerd of its own."""
    return existing_habits()


@pytest.fixture(scope="session")
def node(habits_before: set[str]) -> Iterator[Cluster]:
    """A full node, shared by all tests that leave it whole."""
    del habits_before  # asked for its moment, not its value
    name = _name("node")
    try:
        yield Cluster.up(name, level=Level.NODE)
    finally:
        down(name)


@pytest.fixture
def name() -> Iterator[str]:
    """A name for a cluster of the test's own; whatever it becomes is taken down."""
    chosen = _name("own")
    try:
        yield chosen
    finally:
        down(chosen)
