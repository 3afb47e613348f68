"""A control plane to which the chart is shown."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, Level, use_existing


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """One for all tests of this folder; nothing in it ever runs."""
    if use_existing():
        yield Cluster.existing()
        return
    cluster = Cluster.up(f"chart-{os.getpid()}", level=Level.CONTROL_PLANE)
    try:
        yield cluster
    finally:
        cluster.down()
