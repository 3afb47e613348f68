"""The commands of the tutorial, run as they stand, and counted."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from aiohttp.test_utils import unused_port

from tests.cluster import use_existing
from tests.demo.chart import chosen_images, own_images, values
from tests.demo.kubernetes import programs
from tests.demo.settings import ROOT
from tests.e2e.site import Site

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
IMAGES = "--set image.repository=REGISTRY/sundog-operator,workloads.servingImage.repository=REGISTRY/sundog-serving"
SECONDS = 1200


def commands(text: str) -> list[str]:
    """The commands of a text; one may go over several lines."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in re.sub(r"\\\n *", "", block).splitlines()]


def part(heading: str) -> str:
    """The text under a heading."""
    (found,) = re.findall(rf"^## {heading}$(.*?)(?=^## )", TUTORIAL, re.DOTALL | re.MULTILINE)
    return str(found)


async def test_every_command_of_the_tutorial_works_and_they_are_as_few_as_it_says(site: Site, tmp_path: Path) -> None:
    *five, _ = commands(part("Five commands to the first token"))
    assert len(five) == 5
    assert 1 + len(commands(part("Three with the plugin"))) == 3
    found = programs(site.cluster.kubeconfig, prefer_installed=False)
    wanted = chosen_images() if use_existing() else own_images(found.kubeconfig)
    port = unused_port()
    script = "\n".join(commands(TUTORIAL))
    assert script.count(IMAGES) == 1
    # A person puts in where the images are, too. A port that is free takes the place of one that may not be.
    script = script.replace(IMAGES, shlex.join(values(wanted)))
    script = script.replace("service/fake 8000", f"service/fake {port}:8000").replace(":8000/v1", f":{port}/v1")
    done = await _bash(site, script, tmp_path, (found.kubectl, found.helm))
    print(done)
    assert done.count("tok0 tok1 tok2") == 2, "both first answers"
    explained = done.partition("\n+ kubectl sundog explain mine\n")[2].partition("\n+ ")[0]
    assert "max-concurrency" in explained
    assert "max-concurrent" in explained.replace("max-concurrency", "")
    await site.until("nothing left", lambda: not site.list("llmdeployments,deployments,pods,persistentvolumeclaims"))


async def _bash(site: Site, script: str, folder: Path, tools: Sequence[str | Path]) -> str:
    """Run it as a person would type it: each command is echoed, and the first that fails ends it."""
    config = yaml.safe_load(site.cluster.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = site.namespace
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    path = [str(Path(tool).parent) for tool in (*tools, sys.executable)] + [os.environ["PATH"]]
    without_proxy = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment = {"KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder), "PATH": ":".join(path)}
    said = folder / "said"
    with said.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-exc",
            script,
            cwd=ROOT,
            env={**without_proxy, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(SECONDS):
            await process.wait()
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the port-forward is left
    text = said.read_text(errors="replace")
    assert process.returncode == 0, f"it ended with {process.returncode}:\n{text}\n{site.story()}"
    return text
