"""Write every file that is made from the models, or check them: `python -m sundog_operator.api.generate [--check]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from sundog_operator.api.crd import crd_yaml
from sundog_operator.api.generated import run
from sundog_operator.api.reference import reference

ROOT = Path(__file__).resolve().parents[3]
_CRD = Path("crds/sundog.dev_llmdeployments.yaml")
# Helm packs only what lies in the chart's own folder.
_CHART_COPY = Path("charts/sundog/files/llmdeployments.yaml")
_REFERENCE = Path("docs/reference/llmdeployment.md")


def _files(root: Path) -> dict[Path, Callable[[], str]]:
    copies = [_CHART_COPY] if (root / _CHART_COPY).parent.is_dir() else []
    return {root / path: crd_yaml for path in (_CRD, *copies)} | {root / _REFERENCE: reference}


def main(arguments: list[str], *, root: Path = ROOT) -> int:
    """Write the files below `root`, or with `--check` compare them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sundog_operator.api.generate")
    parser.add_argument("--check", action="store_true", help="fail where a file differs, and write nothing")
    action = "--check" if parser.parse_args(arguments).check else "--write"
    codes = [run(make(), module=make.__module__, arguments=[action, str(path)]) for path, make in _files(root).items()]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
