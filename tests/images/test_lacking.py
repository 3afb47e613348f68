"""What a machine lacks is told in one sentence, with what to do."""

import os
from pathlib import Path

import pytest

from tests.cluster import ClusterError
from tests.images import ImageError, images, making, recipes


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built yet, and this is root on Debian."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(recipes, "suite", lambda: "bookworm")
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImageError) as told:
        images()
    assert str(told.value) == (
        "Building images needs buildah, mmdebstrap, unshare: apt-get install buildah mmdebstrap util-linux"
    )


def test_an_ordinary_user_is_told_that_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError, match="needs root"):
        images()


def test_a_full_disk_is_told_with_what_is_needed_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "TOOLS", {})
    monkeypatch.setattr(making, "BUILD_GIBIBYTES", 1e6)
    with pytest.raises(ClusterError, match=rf"needs 1e\+06 GiB free in {tmp_path}/sundog/images, and there are"):
        images()


def test_nothing_is_left_of_a_build_that_could_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImageError):
        images()
    assert not list((tmp_path / "sundog" / "images").iterdir())
