"""An API server of the tests, and the commands that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.apiserver.cli.command_line import CommandLine
from tests.unit.cli.api_server import ApiServer, api_server


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with api_server() as made:
        yield made


@pytest.fixture
def sundog(server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    made = CommandLine(monkeypatch, "team")
    made.use(server.kubeconfig(tmp_path / "kubeconfig"))
    return made
