"""The documentation becomes a site without a warning: every link and every anchor leads somewhere."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(docs: Path, into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", str(docs), str(into)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    built = build(ROOT / "docs", tmp_path)
    assert (built.returncode, built.stderr) == (0, "")
    page = (tmp_path / "gitops.html").read_text()
    assert "github.com/sundog-dev/sundog/tree/main/examples/gitops/flux" in page


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "conf.py").write_text((ROOT / "docs/conf.py").read_text())
    (docs / "index.md").write_text("# Home\n\n[one](nowhere.md), [two](../nowhere.yaml), [three](index.md#no-such)\n")
    (docs / "forgotten.md").write_text("# Forgotten\n")
    built = build(docs, tmp_path / "site")
    assert built.returncode == 1
    told = [word for word in ("'nowhere.md'", "'../nowhere.yaml'", "no-such", "forgotten.md") if word in built.stderr]
    assert len(told) == 4, built.stderr
