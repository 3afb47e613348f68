"""Building the components from their Go modules, and keeping what was built.

A built program stands in ``<cache>/bin/<key>/``; the key is a hash of all that
goes into it, so a change of any input makes a new folder and never a stale one.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import folders
from .errors import ClusterError
from .progress import Progress, default_progress
from .versions import COMMITTED_VERSION, KUBERNETES_VERSION, module_folder

# No debugger is ever attached to a test cluster: leaving out DWARF data saves a
# tenth of the time and a third of the size.
FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false")
CONTAINERD = "github.com/containerd/containerd/v2/cmd"
# Modules 1.5 GiB, Go's build cache 3 GiB, programs 0.6 GiB, measured.
BUILD_GIBIBYTES = 6.0


@dataclass(frozen=True, slots=True)
class Target:
    """One binary and the names it is called by."""

    package: str
    programs: tuple[str, ...]
    of_kubernetes: bool = False
    """Whether it changes with the Kubernetes version that is asked for."""
    module: str = ""
    """The folder of a Go module of its own: one whose requirements must not make all the others be built anew."""

    @property
    def binary(self) -> str:
        """The name that ``go build`` gives it."""
        return self.module if self.package == "." else self.package.rpartition("/")[2]


TARGETS = (
    Target(
        "./controlplane",
        ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
        of_kubernetes=True,
    ),
    Target("./node", ("kubelet", "kube-proxy"), of_kubernetes=True),
    Target("./pause", ("pause",)),
    Target(f"{CONTAINERD}/containerd", ("containerd",)),
    Target(f"{CONTAINERD}/containerd-shim-runc-v2", ("containerd-shim-runc-v2",)),
    Target(f"{CONTAINERD}/ctr", ("ctr",)),
    Target("./coredns", ("coredns",)),
    Target("./probe", ("probe",)),
    Target("./helm", ("helm",)),
    Target("sigs.k8s.io/kwok/cmd/kwok", ("kwok",)),
    Target("./kwokstages", ("kwokstages",)),
    Target(".", ("kstatus",), module="kstatus"),
    Target("helm.sh/helm/v3/cmd/helm", ("helm3",), module="helm3"),
    Target("github.com/zegl/kube-score/cmd/kube-score", ("kube-score",), module="kube-score"),
    Target("sigs.k8s.io/kubectl-validate", ("kubectl-validate",), module="kubectl-validate"),
)
TARGET_OF = {program: target for target in TARGETS for program in target.programs}
CONTROL_PLANE = TARGETS[0].programs
NODE = (*CONTROL_PLANE, "kubelet", "kube-proxy", "pause", "containerd", "containerd-shim-runc-v2", "ctr", "coredns")
FAKE_NODES = ("kwok", "kwokstages")
EVERYTHING = tuple(TARGET_OF)


def _go(*arguments: str, folder: Path) -> str:
    """Run the go command for a short question."""
    try:
        done = subprocess.run(
            ["go", *arguments], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ClusterError(
            f"Go is not installed: the cluster is built from source and needs Go {required_go(folder)} or newer."
        ) from None
    if done.returncode:
        if "requires go >=" in done.stderr:
            raise ClusterError(
                f"Go is too old: {done.stderr.strip().splitlines()[-1].removeprefix('go: ')}; install a newer one."
            )
        raise ClusterError(f"go {' '.join(arguments[:2])} failed in {folder}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    # C would tie the programs to this machine's libc; the pause program runs in an image without one.
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


def required_go(folder: Path) -> str:
    """Read from go.mod which Go is needed."""
    return next(line.split()[1] for line in (folder / "go.mod").read_text().splitlines() if line.startswith("go "))


def _linker_flags(version: str) -> str:
    major, minor, _ = version.split(".", 2)
    package = "k8s.io/component-base/version"
    named = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return "-s -w " + " ".join(f"-X {package}.{name}={value}" for name, value in named.items())


def _version_of(target: Target, asked: str) -> str:
    return asked if target.of_kubernetes else COMMITTED_VERSION


def _module(target: Target, version: str) -> Path:
    return module_folder(version) / target.module


def _key(target: Target, *, version: str, go: str) -> str:
    module = _module(target, version)
    inputs = hashlib.sha256(json.dumps([target.package, target.programs, FLAGS, _linker_flags(version), go]).encode())
    own = sorted((module / target.package).glob("*.go")) if target.package.startswith(".") else []
    for file in (module / "go.mod", module / "go.sum", *own):
        inputs.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{target.binary}-{inputs.hexdigest()[:16]}"


def _folder(target: Target, *, version: str) -> Path:
    version = _version_of(target, version)
    return folders.binaries() / _key(target, version=version, go=_go("env", "GOVERSION", folder=module_folder(version)))


def build(
    progress: Progress | None = None,
    *,
    programs: Iterable[str] = EVERYTHING,
    kubernetes_version: str = KUBERNETES_VERSION,
) -> dict[str, Path]:
    """Build what is not built yet.

    Args:
        progress: where to tell how far it is; by default a bar or lines on standard error.
        programs: names of programs, for instance ``kubectl``; all by default.
        kubernetes_version: version of the Kubernetes components among them.

    Returns:
        The path of each program.

    Raises:
        ClusterError: Go is missing or too old, the disk is too full, or the build failed.
    """
    progress = progress or default_progress()
    wanted = list(programs)
    if unknown := [name for name in wanted if name not in TARGET_OF]:
        raise ClusterError(f"there is no program {unknown[0]!r} to build: there are {', '.join(EVERYTHING)}.")
    targets = list(dict.fromkeys(TARGET_OF[name] for name in wanted))
    found = {target: _folder(target, version=kubernetes_version) for target in targets}
    if not all(folder.exists() for folder in found.values()):
        lock = folders.binaries() / ".lock"
        with folders.locked(lock, waiting=lambda: progress.say("Another build is running: waiting for it.")):
            of_module: dict[tuple[str, Path], dict[Target, Path]] = {}
            for target, folder in found.items():
                if not folder.exists():
                    version = _version_of(target, kubernetes_version)
                    of_module.setdefault((version, _module(target, version)), {})[target] = folder
            for (version, module), missing in of_module.items():
                _compile(missing, version=version, module=module, progress=progress)
    return {name: found[TARGET_OF[name]] / name for name in wanted}


def tool(name: str, *, kubernetes_version: str = KUBERNETES_VERSION) -> Path:
    """Give the path of a program such as ``kubectl``, ``helm`` or ``kwok``, building it when needed."""
    return build(programs=[name], kubernetes_version=kubernetes_version)[name]


def _compile(missing: Mapping[Target, Path], *, version: str, module: Path, progress: Progress) -> None:
    """Build into a temporary folder and rename, so that an interrupted build leaves nothing half-made."""
    folders.require_space(folders.binaries(), gibibytes=BUILD_GIBIBYTES, purpose="Building the cluster's components")
    temporary = folders.binaries() / ".unfinished"
    shutil.rmtree(temporary, ignore_errors=True)  # only the lock's holder comes here: it is a leftover
    temporary.mkdir(parents=True)
    packages = [target.package for target in missing]
    names = ", ".join(target.binary for target in missing)
    with progress.task(f"Building {names} (Kubernetes {version}) from source") as task:
        task.update(detail="looking up packages")
        # Stale packages only: after a small change most come from Go's own cache.
        listed = _go("list", "-deps", *FLAGS, "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *packages, folder=module)
        total = len(set(listed.split()))
        task.update(done=0, total=total)
        command = ["go", "build", "-v", *FLAGS, "-ldflags", _linker_flags(version), "-o", f"{temporary}/", *packages]
        output: list[str] = []
        compiled = 0
        with subprocess.Popen(
            command, cwd=module, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                output.append(line.strip())
                if not line.startswith(("go: ", "#", "\t")):
                    compiled += 1
                detail = "linking" if compiled >= total else line.strip()[-50:]
                task.update(done=min(compiled, total), detail=detail)
        if process.returncode:
            reason = next(
                (line for line in output if ".go:" in line or line.startswith("go: ")), output[-1] if output else ""
            )
            raise ClusterError(f"go build of {names} failed: {reason} (run it again in {module} to see all of it).")
        for target, folder in missing.items():
            _keep(target, folder, built=temporary)
    shutil.rmtree(temporary)


def _keep(target: Target, folder: Path, *, built: Path) -> None:
    """Move a binary to its place, with a link for each of its names."""
    staged = built / f"{target.binary}.folder"
    staged.mkdir()
    (built / target.binary).rename(staged / target.binary)
    for program in target.programs:
        if program != target.binary:
            (staged / program).symlink_to(target.binary)
    staged.rename(folder)
