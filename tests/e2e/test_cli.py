"""`kubectl sundog` with real pods: from nothing to an answer, directly and through the API server."""

from __future__ import annotations

import pytest

from sundog_cli import endpoint
from tests.apiserver.cli.command_line import CommandLine
from tests.e2e.site import Site

DEPLOY = ("deploy", "acme/fake", "--engine=fake", "--name=first", "--arg=tokens-per-second=50")
BENCH = ("bench", "first", "--with=builtin", "--rate=10", "--requests=20", "--output-tokens=10", "--output=json")


async def test_from_nothing_to_an_answer_in_two_commands(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sundog = CommandLine(monkeypatch, site.namespace)
    sundog.use(site.cluster.kubeconfig)
    (await sundog(*DEPLOY, "--wait", "--timeout=420")).says("first is ready")
    assert (await sundog("chat", "first", "hi", "--max-tokens=3")).out == "tok0 tok1 tok2\n"

    (await sundog("logs", "first", "--tail=1000")).says("first-", "the engine is ready")
    (await sundog("logs", "first", "--component=router")).says("first-router-")
    doctor = await sundog("doctor")
    doctor.says("ok      Operator", "ok      Custom metrics: served by Sundog", "ok      CustomResourceDefinition")

    for addresses in (endpoint.addresses, lambda *_: []):
        monkeypatch.setattr(endpoint, "addresses", addresses)
        done = await sundog(*BENCH)
        print(f"\n{done.err.strip()} {done.out}")
        assert (done.json["requests"], done.json["whole"], done.json["faults"]) == (20, 20, {})
        assert done.json["inter_token"]["p50"] < 0.1
    done.says("through the API server")
    assert (await sundog("chat", "first", "hi", "--max-tokens=2")).out == "tok0 tok1\n"
