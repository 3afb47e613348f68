"""What Argo CD, Flux and Helm make of each state of an LLMDeployment, by their own means: Lua and kstatus."""

from __future__ import annotations

import json
import subprocess
from typing import Any, cast

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from tests.cluster import tool
from tests.gitops.table import ROOT, Case, table

CASES = table()
KEY = "resource.customizations.health.sundog.dev_LLMDeployment"


def lua(script: str, manifest: dict[str, Any]) -> dict[str, str]:
    """Run a health check as Argo CD does: Lua 5.1, the object as `obj`, no library that reaches out."""
    runtime = LuaRuntime(register_eval=False, register_builtins=False, unpack_returned_tuples=True)
    runtime.execute("os, io, package, require, dofile, loadfile, debug = nil, nil, nil, nil, nil, nil, nil")
    runtime.globals().obj = runtime.table_from(manifest, recursive=True)
    return dict(cast("Any", runtime.execute(script)).items())


@pytest.fixture(scope="session")
def script() -> str:
    """The health check that people install."""
    manifest = yaml.safe_load((ROOT / "examples/gitops/argocd/argocd-cm.yaml").read_text())
    found: str = manifest["data"][KEY]
    return found


@pytest.fixture(scope="session")
def verdicts() -> dict[str, dict[str, dict[str, str]]]:
    """What both kstatus libraries say of each state."""
    objects = json.dumps([case.manifest for case in CASES.values()])
    done = subprocess.run([tool("kstatus")], input=objects, capture_output=True, text=True, check=True)
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
def test_argo_cd_sees_how_it_is(script: str, name: str, case: Case) -> None:
    assert lua(script, case.manifest)["status"] == case.argo, name


def test_argo_cd_sees_an_object_without_any_status_as_on_its_way(script: str) -> None:
    bare = {key: value for key, value in CASES["fresh"].manifest.items() if key != "status"}
    assert lua(script, bare)["status"] == "Progressing"


@pytest.mark.parametrize("name", ["ready", "scaled_to_zero", "waiting_for_a_cure", "stalled", "rolled_back"])
def test_argo_cd_shows_the_reason_and_the_sentence(script: str, name: str) -> None:
    manifest = CASES[name].manifest
    ready = next(c for c in manifest["status"]["conditions"] if c["type"] == "Ready")
    assert lua(script, manifest)["message"] == f"{ready['reason']}: {ready['message']}"


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
@pytest.mark.parametrize("library", ["upstream", "flux"])
def test_kstatus_sees_how_it_is(
    verdicts: dict[str, dict[str, dict[str, str]]], library: str, name: str, case: Case
) -> None:
    assert verdicts[name][library]["status"] == case.kstatus, verdicts[name][library]["message"]
