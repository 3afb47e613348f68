"""kubectl and helm on the cluster of the demo."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import ClusterError, tool

from .errors import DemoError

# Short questions only: a server that does not answer one in this time answers nothing.
SECONDS = 60.0
DEFINITION = "llmdeployments.sundog.dev"


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The programs, and the cluster that they talk to."""

    kubectl: Path
    helm: Path
    kubeconfig: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What the programs need in their environment."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    async def run(self, *arguments: str) -> str:
        """Run kubectl for something short and give what it prints.

        Raises:
            DemoError: it failed; the message is what it said.
        """
        process = await asyncio.create_subprocess_exec(
            self.kubectl,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), SECONDS)
        except TimeoutError:
            raise DemoError(f"kubectl {' '.join(arguments[:2])} got no answer in {SECONDS:.0f} s.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise DemoError(f"kubectl {' '.join(arguments[:3])} failed: {err.decode().strip() or out.decode().strip()}")
        return out.decode()

    async def read(self, kind: str, name: str, *, namespace: str) -> dict[str, Any] | None:
        """Read an object; None when there is none."""
        found = await self.run("get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "--output=json")
        return dict(json.loads(found)) if found else None


async def remove(kubernetes: Kubernetes, name: str, *, namespace: str) -> None:
    """Delete an LLMDeployment if there is one, and its pods without letting them finish: nobody else asks the demo's.

    Raises:
        DemoError: the server refused, or they did not go.
    """
    where = f"--namespace={namespace}"
    if not await kubernetes.read("customresourcedefinition", DEFINITION, namespace=namespace):
        return
    await kubernetes.run("delete", "llmdeployment", name, where, "--ignore-not-found")
    # Deployments first, which would make new ones.
    selector = f"--selector=sundog.dev/llmdeployment={name}"
    await kubernetes.run("delete", "deployments", where, selector)
    await kubernetes.run("delete", "pods", where, selector, "--force")


def programs(kubeconfig: Path, *, prefer_installed: bool) -> Kubernetes:
    """Find kubectl and helm, building them when needed.

    Args:
        kubeconfig: of the cluster to talk to.
        prefer_installed: take those in PATH where they are: they fit a person's own cluster.

    Raises:
        DemoError: they could not be built.
    """
    found = {name: shutil.which(name) if prefer_installed else None for name in ("kubectl", "helm")}
    try:
        paths = {name: Path(path) if path else tool(name) for name, path in found.items()}
    except ClusterError as error:
        raise DemoError(str(error)) from None
    return Kubernetes(kubectl=paths["kubectl"], helm=paths["helm"], kubeconfig=kubeconfig)
