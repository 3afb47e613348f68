"""Rendering the chart with the Helm that tests use, and the golden renderings.

``python -m tests.chart.rendering`` writes the golden files anew.
"""

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import tool

Manifest = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "sundog"
GOLDEN = Path(__file__).parent / "golden"
NAMESPACE = "sundog-system"

# Without the CRD: it is generated, long, and compared as a whole elsewhere.
CASES = {
    "default": ("--set=crds.enabled=false",),
    "watch-namespaces": ("--set=crds.enabled=false", "--set=watchNamespaces={team-a,team-b}"),
    "two-replicas": ("--set=crds.enabled=false", "--set=replicas=2"),
}


class HelmError(Exception):
    """What helm said."""


def helm(*arguments: str) -> str:
    """Run helm and give what it prints."""
    # The environment of whoever runs the tests must not choose a cluster, plugins or repositories.
    done = subprocess.run(
        [tool("helm"), *arguments],
        env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HelmError(done.stderr.strip())
    return done.stdout


def rendered(*options: str) -> str:
    """Render the chart as a release called sundog."""
    return helm("template", "sundog", str(CHART), f"--namespace={NAMESPACE}", *options)


@functools.cache
def _rendered_once(*options: str) -> str:
    return rendered(*options)


def manifests(*options: str) -> list[Manifest]:
    """Render the chart and read it."""
    return [manifest for manifest in yaml.safe_load_all(_rendered_once(*options)) if manifest]


def of_kind(kind: str, *options: str) -> list[Manifest]:
    """Render the chart and pick the manifests of a kind."""
    return [manifest for manifest in manifests(*options) if manifest["kind"] == kind]


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for case, options in CASES.items():
        (GOLDEN / f"{case}.yaml").write_text(rendered(*options))
