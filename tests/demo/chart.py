"""Installing Sundog with Helm, with images of our own or with those that a person names."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.images import TAGS

from .kubernetes import Kubernetes
from .settings import ROOT

RELEASE = "sundog"
RELEASE_NAMESPACE = "sundog-system"
OPERATOR = "sundog-operator"
CHART = Path("charts/sundog")
# Where each image stands in the chart's values.
VALUES = {"operator": "image", "serving": "workloads.servingImage", "router": "workloads.routerImage"}


@dataclass(frozen=True, slots=True)
class Images:
    """The images to install."""

    names: Mapping[str, str]
    """By part; an empty name leaves the chart's own."""
    operator_key: str = ""
    """Changes with the operator's image where its name does not: its pod must be another one then."""
    workload_key: str = ""
    """The same of the images of head, workers and router."""


def own_images(kubeconfig: Path) -> Images:
    """Give the images that were loaded into the node of our own cluster."""
    loaded = json.loads((kubeconfig.parent / "images.json").read_text())
    keys = {name: loaded[tag][:16] for name, tag in TAGS.items()}
    return Images(TAGS, operator_key=keys["operator"], workload_key=f"{keys['serving']} {keys['router']}")


def chosen_images(environment: Mapping[str, str] | None = None) -> Images:
    """Give the images that a person wants in a cluster of theirs: ``SUNDOG_OPERATOR_IMAGE`` and so on."""
    environment = os.environ if environment is None else environment
    return Images({name: environment.get(f"SUNDOG_{name.upper()}_IMAGE", "") for name in VALUES})


def upgrade(kubernetes: Kubernetes, wanted: Images) -> list[str | Path]:
    """Give the command that installs the chart, or upgrades it to what it is now, and waits until it works."""
    return [
        kubernetes.helm,
        "upgrade",
        "--install",
        RELEASE,
        ROOT / CHART,
        f"--namespace={RELEASE_NAMESPACE}",
        "--create-namespace",
        "--wait",
        "--timeout=3m",
        *values(wanted),
    ]


def uninstall(kubernetes: Kubernetes) -> list[str | Path]:
    """Give the command that takes the chart away."""
    return [kubernetes.helm, "uninstall", RELEASE, f"--namespace={RELEASE_NAMESPACE}", "--ignore-not-found", "--wait"]


def values(wanted: Images) -> Iterator[str]:
    for part, image in wanted.names.items():
        if image:
            name, _, digest = image.partition("@")
            # A colon before the last slash is that of a registry's port.
            path, slash, last = name.rpartition("/")
            last, _, tag = last.partition(":")
            yield f"--set-string={VALUES[part]}.repository={path}{slash}{last}"
            yield f"--set-string={VALUES[part]}.tag={tag}"
            yield f"--set-string={VALUES[part]}.digest={digest}"
    if wanted.operator_key:
        yield f"--set-string=podAnnotations.sundog\\.dev/image-key={wanted.operator_key}"
