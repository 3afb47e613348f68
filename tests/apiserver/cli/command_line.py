"""Runs `kubectl sundog` in the test's own process, as its script does."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sundog_cli.__main__ import main


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote for programs."""
        return json.loads(self.out)

    def says(self, *words: str) -> None:
        """Hold it to its words; a sentence may be broken over lines nowhere."""
        for word in words:
            assert word in self.out + self.err, f"{word!r} is not in:\n{self.out}\n{self.err}"


class CommandLine:
    """Runs commands in this process, as the script does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
        self._monkeypatch = monkeypatch
        self.namespace = namespace

    def use(self, kubeconfig: Path) -> None:
        """Look at another cluster, or as somebody else."""
        self._monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

    async def __call__(self, *arguments: str, code: int = 0) -> Done:
        """Run a command in the namespace; it must end with this code, and never with a traceback."""
        whole = [*arguments, f"--namespace={self.namespace}"]
        done = await asyncio.to_thread(_run, whole)
        assert done.code == code, f"kubectl sundog {' '.join(whole)} ended with {done.code}:\n{done.out}\n{done.err}"
        return done


def _run(arguments: list[str]) -> Done:
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    return Done(int(code or 0), out.getvalue(), err.getvalue())
