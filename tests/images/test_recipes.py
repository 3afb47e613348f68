"""What an image is made of decides its key; nothing else does."""

import os
import platform
from pathlib import Path

import pytest

from tests.images import TAGS, ImageError, recipes
from tests.images.buildah import cause
from tests.images.recipes import RECIPES, ROOT, Recipe


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of which an image is made."""
    root = tmp_path / "repository"
    (root / "part" / "package" / "__pycache__").mkdir(parents=True)
    (root / "part" / "Dockerfile").write_text("FROM scratch")
    (root / "part" / "package" / "module.py").write_text("x = 1")
    (root / "part" / "package" / "__pycache__" / "module.pyc").write_bytes(b"made")
    (root / recipes.BASE_DOCKERFILE).parent.mkdir(parents=True)
    (root / recipes.BASE_DOCKERFILE).write_text("FROM scratch")
    monkeypatch.setattr(recipes, "ROOT", root)
    return root


def key(folder: Path, suite: str = "bookworm") -> str:
    return recipes.stage(Recipe("part", "part/Dockerfile", ("part/package",)), folder, suite=suite)


def test_the_same_content_has_the_same_key_whenever_and_wherever_it_was_checked_out(tree: Path, tmp_path: Path) -> None:
    before = key(tmp_path / "1")
    module = tree / "part" / "package" / "module.py"
    os.utime(module, (1, 1))
    module.chmod(0o600)
    (tree / "part" / "package" / "__pycache__" / "module.pyc").write_bytes(b"made anew")
    assert key(tmp_path / "2") == before


@pytest.mark.parametrize("path", ["part/Dockerfile", "part/package/module.py", "part/package/new.py", "base"])
def test_a_change_of_any_input_changes_the_key(tree: Path, tmp_path: Path, path: str) -> None:
    before = key(tmp_path / "1")
    (tree / (recipes.BASE_DOCKERFILE if path == "base" else path)).write_text("changed")
    assert key(tmp_path / "2") != before


def test_another_debian_release_changes_the_key(tree: Path, tmp_path: Path) -> None:
    assert tree.is_dir()
    assert key(tmp_path / "1", suite="bookworm") != key(tmp_path / "2", suite="trixie")


def test_what_is_staged_holds_sources_only_with_the_same_times_and_modes(tree: Path, tmp_path: Path) -> None:
    assert tree.is_dir()
    key(tmp_path / "staged")
    found = sorted((tmp_path / "staged").rglob("*"))
    assert [path.name for path in found] == ["part", "Dockerfile", "package", "module.py"]
    assert {path.stat().st_mtime for path in found} == {recipes.STAGED_SECONDS}
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o644}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_dockerfile_copies_what_its_recipe_stages_and_docker_may_read_it(recipe: Recipe) -> None:
    text = (ROOT / recipe.dockerfile).read_text()
    copies = [line.split()[1:-1] for line in text.splitlines() if line.startswith(("COPY ", "ADD "))]
    assert sorted(source for sources in copies for source in sources) == sorted(recipe.sources)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(f"!{source}" in allowed for source in recipe.sources)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_an_image_runs_as_a_numeric_user_that_is_not_root(recipe: Recipe) -> None:
    # The kubelet cannot tell of a name whether it is root, and refuses it under runAsNonRoot.
    users = [
        line.split()[1] for line in (ROOT / recipe.dockerfile).read_text().splitlines() if line.startswith("USER ")
    ]
    user, _, group = users[-1].partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_tags_name_no_registry_that_could_be_asked() -> None:
    assert {tag.split("/")[0] for tag in TAGS.values()} == {"localhost"}


def test_a_machine_without_debian_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    release = {"ID": "ubuntu", "PRETTY_NAME": "Ubuntu 24.04", "VERSION_CODENAME": "noble"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    with pytest.raises(ImageError, match=r"this machine is Ubuntu 24\.04"):
        recipes.suite()


def test_a_failed_build_is_told_by_its_cause() -> None:
    lines = [
        "STEP 4/12: COPY operator/requirements.lock /opt/sundog/requirements.lock",
        "--> 019384f3613",
        "ERROR: No matching distribution found for kopf==9",
        'error building at STEP "RUN python3": while running runtime: exit status 1',
        "exit status 1",
    ]
    assert cause(lines) == "ERROR: No matching distribution found for kopf==9"
