"""The bench runs from its beginning to its table, with little of everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import main

pytestmark = [pytest.mark.apiserver, pytest.mark.patient]


def test_the_bench_comes_to_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    small = ["--sizes", "2", "--samples", "1", "--idle-seconds", "1", "--metrics-api", "2", "--no-footprint"]
    assert main([*small, "--json", str(figures)]) == 0, capsys.readouterr().err
    assert "restart: needless writes" in capsys.readouterr().out
    assert json.loads(figures.read_text())
