"""Which Kubernetes is built: the committed version, or another one derived from it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from . import folders
from .errors import ClusterError

COMMITTED_VERSION = "1.37.1"
"""Of the module in `components`."""
KUBERNETES_VERSION = os.environ.get("KUBERNETES_VERSION") or COMMITTED_VERSION
"""What is built and run unless another is asked for."""
# Sources that exist for every version; containerd, CoreDNS, Helm and KWOK stay those of the committed module.
DERIVED_SOURCES = ("controlplane", "node")
VERSION_PATTERN = re.compile(r"1\.\d+\.\d+")


def module_folder(version: str) -> Path:
    """Give the Go module for a Kubernetes version, deriving it on first use.

    Raises:
        ClusterError: there is no such version, or its module cannot be resolved.
    """
    if version == COMMITTED_VERSION:
        return folders.COMPONENTS
    if not VERSION_PATTERN.fullmatch(version):
        raise ClusterError(
            f"{version!r} is no Kubernetes version: give all three numbers, for instance {COMMITTED_VERSION}."
        )
    derived = folders.cache() / "modules" / version
    with folders.locked(folders.cache() / "modules" / ".lock"):
        if not derived.exists():
            _derive(version, derived)
    for source in DERIVED_SOURCES:  # always the present sources: the module remembers versions, not programs
        shutil.copytree(folders.COMPONENTS / source, derived / source, dirs_exist_ok=True)
    return derived


def go_mod(version: str, upstream: str) -> str:
    """Write the go.mod of a Kubernetes version from Kubernetes' own.

    Kubernetes replaces its staging modules by folders, which do not exist
    outside its repository; the published modules carry the same commit.
    """
    staging = re.findall(r"^\t(k8s\.io/\S+) => \./staging/", upstream, re.MULTILINE)
    go = re.findall(r"^go (\S+)$", upstream, re.MULTILINE)[0]
    etcd = re.findall(r"^\tgo\.etcd\.io/etcd/client/v3 (\S+)", upstream, re.MULTILINE)[0]
    godebug = re.findall(r"^godebug .*$", upstream, re.MULTILINE)
    published = "v0." + version.split(".", 1)[1]
    return "\n".join(
        [
            "module sundog/tests/cluster/components",
            f"go {go}",
            *godebug,
            f"require (\n\tgo.etcd.io/etcd/server/v3 {etcd}\n\tk8s.io/kubernetes v{version}\n)",
            "replace (",
            *(f"\t{module} => {module} {published}" for module in staging),
            ")",
            "",
        ]
    )


def _derive(version: str, derived: Path) -> None:
    unfinished = derived.with_name(f".unfinished-{version}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    # Outside any module, so that the answer does not depend on one.
    downloaded = _go("mod", "download", "-json", f"k8s.io/kubernetes@v{version}", folder=unfinished, version=version)
    upstream = Path(re.findall(r'"GoMod": "([^"]+)"', downloaded)[0]).read_text()
    (unfinished / "go.mod").write_text(go_mod(version, upstream))
    for source in DERIVED_SOURCES:
        shutil.copytree(folders.COMPONENTS / source, unfinished / source)
    _go("mod", "tidy", folder=unfinished, version=version)
    unfinished.rename(derived)


def _go(*arguments: str, folder: Path, version: str) -> str:
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    try:
        done = subprocess.run(
            ["go", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ClusterError("Go is not installed: the cluster is built from source and needs it in PATH.") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(
            f"Kubernetes {version} cannot be had as Go modules: {said[-1] if said else 'go says nothing'}"
        )
    return done.stdout
