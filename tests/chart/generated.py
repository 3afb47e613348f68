"""What is made from the chart: the table of its values, and the kustomize base.

``python -m tests.chart.generated`` writes them, ``--check`` compares.

Rendering the base takes Helm, which is built from source. So the base carries a hash of all that it was made from, and
one of its own text: the fast stage compares these, and a test with Helm at hand compares the base itself.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.chart.rendering import CHART, NAMESPACE, ROOT, Manifest, rendered

README = CHART / "README.md"
BASE = ROOT / "charts" / "kustomize"
RENDERED = BASE / "sundog.yaml"
BEGIN, END = "<!-- values: made from values.yaml by make generate -->", "<!-- end of values -->"
# What says that Helm manages an object; kustomize's user does.
OF_HELM = ("helm.sh/", "meta.helm.sh/", "app.kubernetes.io/managed-by")


@dataclass(slots=True)
class Value:
    """A row of the table."""

    path: str
    default: str
    words: list[str] = field(default_factory=list)


def values(text: str) -> Iterator[Value]:
    """Give every key of values.yaml that has a value of its own, or words.

    The comment above a key belongs to it. Lines, and not YAML: a YAML parser drops the comments.
    """
    known = yaml.safe_load(text)
    path: list[str] = []
    words: list[str] = []
    for line in text.splitlines():
        if comment := re.fullmatch(r"\s*# ?(.*)", line):
            words.append(comment[1])
        elif key := re.match(r"( *)([A-Za-z_][\w./-]*):", line):
            path = [*path[: len(key[1]) // 2], key[2]]
            value = known
            for part in path:
                value = value[part]
            if not isinstance(value, dict) or not value:
                yield Value(".".join(path), f"`{json.dumps(value)}`", words)
            elif words:
                yield Value(".".join(path), "", words)
            words = []
        elif not line.strip():
            words = []  # what stands alone is about the file


def table() -> str:
    """Write the table of values in Markdown."""
    rows = (
        f"| `{one.path}` | {one.default} | {' '.join(one.words)} |".replace("  ", " ")
        for one in values((CHART / "values.yaml").read_text())
    )
    return "\n".join([BEGIN, "", "| value | default | |", "|---|---|---|", *rows, "", END])


def readme() -> str:
    """Give the chart's README with the present table."""
    before, _, rest = README.read_text().partition(BEGIN)
    return before + table() + rest.partition(END)[2]


def source_hash() -> str:
    """Hash all files that the base is made from."""
    found = hashlib.sha256()
    for path in sorted(path for path in CHART.rglob("*") if path.is_file() and path != README):
        found.update(f"{path.relative_to(CHART)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def base() -> str:
    """Render the base: the chart's defaults, without what only Helm uses."""
    namespace: Manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    found = [one for one in yaml.safe_load_all(rendered("--skip-tests")) if one]
    for manifest in found:
        _forget_helm(manifest["metadata"])
        if template := manifest.get("spec", {}).get("template"):
            _forget_helm(template["metadata"])
    documents = yaml.safe_dump_all([namespace, *found], sort_keys=False, width=120)
    return f"{_header(documents)}\n{documents}"


def _header(documents: str) -> str:
    """Say what the documents were made from, and what they were then: an edit by hand differs from one or the other."""
    own = hashlib.sha256(documents.encode()).hexdigest()[:16]
    return f"# Made from charts/sundog by make generate. Source: {source_hash()}, itself: {own}"


def _forget_helm(metadata: Manifest) -> None:
    for kind in ("labels", "annotations"):
        kept = {key: value for key, value in metadata.get(kind, {}).items() if not key.startswith(OF_HELM)}
        metadata.pop(kind, None)
        if kept:
            metadata[kind] = kept


def stale() -> list[Path]:
    """List the files that are older than their source or were edited since, as far as that is seen without Helm."""
    found = [] if README.read_text() == readme() else [README]
    header, _, documents = RENDERED.read_text().partition("\n")
    return found if header == _header(documents) else [*found, RENDERED]


def main() -> int:
    """Write the files, or with ``--check`` tell which are stale."""
    parser = argparse.ArgumentParser(prog="python -m tests.chart.generated", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file is stale, and write nothing")
    if not parser.parse_args().check:
        README.write_text(readme())
        RENDERED.write_text(base())
        return 0
    found = stale()
    for path in found:
        print(f"{path.relative_to(ROOT)} is not what the chart says: run make generate", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
