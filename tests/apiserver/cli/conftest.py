"""`kubectl sundog` against a real API server; an operator and its played pods where a test needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.apiserver.cli.command_line import CommandLine
from tests.apiserver.operator.conftest import Place, new_place, no_scheduler
from tests.cluster import Cluster

__all__ = ["no_scheduler"]


@pytest.fixture
async def place(cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Place]:
    """A furnished namespace."""
    async with new_place(cluster, namespace, tmp_path) as made:
        yield made


@pytest.fixture
def sundog(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, as administrator, in the test's namespace."""
    made = CommandLine(monkeypatch, namespace)
    made.use(cluster.kubeconfig)
    monkeypatch.setenv("COLUMNS", "200")
    return made
