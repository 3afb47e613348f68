"""Images as they are built, and what becomes of builds that end before their time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.waiting import until
from tests.images import TAGS, images, making, recipes
from tests.images.recipes import RECIPES, ROOT, Recipe

pytestmark = pytest.mark.e2e

# Builds an image of its own in the store that all images share, from a Dockerfile that takes its time.
SLOW = """
import sys
from pathlib import Path
from tests.images import making, recipes
recipes.ROOT = Path(sys.argv[1])
making.RECIPES["slow"] = recipes.Recipe("slow", "slow/Dockerfile")
print(making.images(names=["slow"])["slow"])
"""
STARTED = "sundog-test-step-has-started"


def config(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        (manifest,) = json.loads(content(tar, "manifest.json"))
        found: dict[str, Any] = json.loads(content(tar, manifest["Config"]))
        return found


def content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file
    return file.read()


def layers(archive: Path) -> list[str]:
    found: list[str] = config(archive)["rootfs"]["diff_ids"]
    return found


@pytest.fixture(scope="module")
def archives() -> dict[str, Path]:
    return images()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """A repository with a Dockerfile that takes ten seconds; its own content each time, so that no layer is cached."""
    (tmp_path / "slow").mkdir()
    step = f"touch /{time.time_ns()} && sleep 10 && : {STARTED}"
    (tmp_path / "slow" / "Dockerfile").write_text(f"ARG BASE\nFROM ${{BASE}}\nRUN {step}\n")
    (tmp_path / recipes.BASE_DOCKERFILE).parent.mkdir(parents=True)
    shutil.copy(ROOT / recipes.BASE_DOCKERFILE, tmp_path / recipes.BASE_DOCKERFILE)
    yield tmp_path
    for folder in making.root().glob("slow-*"):
        shutil.rmtree(folder)


def start(repository: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(repository)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def commands() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def step_is_running() -> bool:
    return any("/bin/sh -c touch /" in command and STARTED in command for command in commands())


def mounts() -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if str(making.root()) in line]


@pytest.mark.parametrize("name", TAGS)
def test_an_image_has_its_tag_and_runs_as_an_ordinary_user(archives: dict[str, Path], name: str) -> None:
    with tarfile.open(archives[name]) as tar:
        (manifest,) = json.loads(content(tar, "manifest.json"))
    assert manifest["RepoTags"] == [TAGS[name]]
    assert int(config(archives[name])["config"]["User"].partition(":")[0]) > 0


@pytest.mark.parametrize("name", TAGS)
def test_nothing_of_this_machines_network_stays_in_an_image(archives: dict[str, Path], name: str) -> None:
    environment = config(archives[name])["config"]["Env"]
    assert not [entry for entry in environment if "CERT" in entry or "PROXY" in entry.upper() or "INDEX" in entry]
    with tarfile.open(archives[name]) as tar:
        for layer in json.loads(content(tar, "manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=tar.extractfile(layer)) as files:
                found = {entry.name: entry.size for entry in files if entry.isfile()}
            assert not [path for path in found if path.startswith(("run/secrets/", "root/.cache/", "tmp/"))]
            assert not found.get("etc/resolv.conf")


def test_the_router_stops_softly_as_the_official_image_does(archives: dict[str, Path]) -> None:
    assert config(archives["router"])["config"]["StopSignal"] == "SIGUSR1"


def test_a_change_of_source_keeps_the_layer_of_what_is_locked(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES["operator"]
    for path in (recipe.dockerfile, recipes.BASE_DOCKERFILE, *recipe.sources):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copyfile
        copy(ROOT / path, tmp_path / path)
    (tmp_path / "operator" / "sundog_operator" / "changed.py").write_text(f"at = {time.time_ns()}\n")
    changed = Recipe("changed", recipe.dockerfile, recipe.sources)
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    monkeypatch.setattr(making, "RECIPES", {**RECIPES, "changed": changed})
    try:
        before, after = layers(archives["operator"]), layers(making.images(names=["changed"])["changed"])
        assert after[:3] == before[:3], "base, lock and environment"
        assert after[3:] != before[3:]
    finally:
        for folder in making.root().glob("changed-*"):
            shutil.rmtree(folder)


def test_ctrl_c_leaves_nothing_behind_and_the_next_build_goes_on(archives: dict[str, Path], slow: Path) -> None:
    assert archives
    with start(slow) as building:
        assert until(step_is_running, seconds=120)
        building.send_signal(signal.SIGINT)
        building.wait(timeout=30)
    assert until(lambda: not step_is_running(), seconds=10)
    assert not mounts()
    assert not list(making.root().glob("slow-*/*"))
    with start(slow) as again:
        printed, said = again.communicate(timeout=120)
    assert Path(printed.strip()).is_file(), said


def test_a_killed_build_does_not_disturb_the_next_one(archives: dict[str, Path], slow: Path) -> None:
    assert archives
    with start(slow) as building:
        assert until(step_is_running, seconds=120)
        building.kill()
    with start(slow) as again:
        printed, said = again.communicate(timeout=120)
    assert "Other images are being built" in said  # buildah itself lived on, and two must not write to one store
    assert Path(printed.strip()).is_file(), said
    assert not mounts()


def test_two_builds_at_once_make_one_image(archives: dict[str, Path], slow: Path) -> None:
    assert archives
    with start(slow) as first, start(slow) as second:
        results = [process.communicate(timeout=120) for process in (first, second)]
    assert results[0][0] == results[1][0] != ""
    assert sum("done in" in said for _, said in results) == 1


def test_images_that_are_made_need_neither_root_nor_tools(
    archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    # Of the others somebody may just be changing the source.
    assert images(names=["router"]) == {"router": archives["router"]}
