"""Where a model's files come from: a mounted claim (``pvc://``) or the hub (``hf://``).

Each way ends in a folder on this machine that has passed the preflight checks.
"""

import asyncio
import errno
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sundog_serving import preflight
from sundog_serving.contract import CACHE_MOUNT, Reason
from sundog_serving.errors import EngineStartError
from sundog_serving.settings import Model

logger = logging.getLogger("sundog.models")

_REPOSITORY: Final = re.compile(r"hf://([\w.-]+/[\w.-]+)/?")
# The same weights in other formats. Left out only where there are safetensors, which vLLM prefers, too.
_OTHER_FORMATS: Final = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.ot",
    "*.tflite",
    "*.gguf",
    "original/*",
    "onnx/*",
)
_PROGRESS_SECONDS: Final = 10
_ABANDONED_SECONDS: Final = 3600
"""A download that another replica is at has written within the last seconds."""
_MARKERS: Final = "sundog-complete"


async def locate(model: Model, *, weights: bool) -> Path:
    """Return the folder of a model, downloaded first where it has to be.

    Args:
        model: Which one.
        weights: Whether the folder must hold weights (not so for ``load-format: dummy`` and its like).

    Raises:
        EngineStartError: It is not there, not readable, not a model, or could not be downloaded.
    """
    path = await _fetch(model)
    await asyncio.to_thread(preflight.check, path, weights=weights)
    return path


async def locate_adapter(adapter: Model) -> Path:
    """Return the folder of a LoRA adapter, downloaded first where it has to be.

    Raises:
        EngineStartError: It is not there, not readable, not an adapter, or could not be downloaded.
    """
    try:
        path = await _fetch(adapter)
        await asyncio.to_thread(preflight.check_adapter, path)
    except EngineStartError as error:
        # The sentences about a model, with the fields of an adapter.
        sentence = re.sub(r"spec\.model\.(uri|revision)\b", r"spec.model.lora.adapters[].\1", error.sentence)
        raise EngineStartError(error.reason, sentence) from error
    return path


async def _fetch(model: Model) -> Path:
    scheme = model.uri.partition("://")[0]
    source = _SOURCES.get(scheme)
    if source is None:
        raise EngineStartError(
            Reason.MODEL_NOT_FOUND,
            f"this serving image cannot fetch {scheme}:// models; it can {' and '.join(_SOURCES)}",
        )
    # In a thread: the replica must stay able to stop while gigabytes come in.
    return await asyncio.to_thread(source, model)


def _from_claim(model: Model) -> Path:
    if model.path is None:
        raise EngineStartError(
            Reason.MODEL_NOT_FOUND, f"{model.uri} came without a path: operator and serving image differ in release"
        )
    return model.path


def _from_hub(model: Model) -> Path:
    found = _REPOSITORY.fullmatch(model.uri)
    if found is None:
        raise EngineStartError(Reason.MODEL_NOT_FOUND, f"{model.uri!r} is not of the form hf://organization/name")
    repository, revision = found[1], model.revision or "main"
    cache = Path(os.environ.get("HF_HOME", CACHE_MOUNT)) / "hub"
    if (kept := _complete_snapshot(cache, repository, revision)) is not None:
        logger.info("the cache holds the model repository=%s revision=%s", repository, revision)
        return kept
    from sundog_serving.hub_errors import Wanted, explain  # noqa: PLC0415  a second of imports, needed only here

    try:
        return _download(cache, repository, revision)
    # Broad on purpose: the library lets through errors of its own, of two HTTP clients, of file locks and of the disk.
    except Exception as error:
        raise explain(error, Wanted(repository, revision, cache)) from error


_SOURCES: Final[Mapping[str, Callable[[Model], Path]]] = {"pvc": _from_claim, "hf": _from_hub}


def _folder(cache: Path, repository: str) -> Path:
    return cache / f"models--{repository.replace('/', '--')}"


def _complete_snapshot(cache: Path, repository: str, revision: str) -> Path | None:
    """Find a revision that was downloaded whole.

    A branch means what it meant then, so all replicas that share a cache serve the same model.
    """
    folder = _folder(cache, repository)
    try:
        commit = (folder / "refs" / revision).read_text().strip()
    except OSError:
        commit = revision
    snapshot = folder / "snapshots" / commit
    return snapshot if (folder / _MARKERS / commit).exists() and snapshot.is_dir() else None


def _download(cache: Path, repository: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()  # carriage returns in a log; own lines tell the progress instead
    cache.mkdir(parents=True, exist_ok=True)
    _sweep(_folder(cache, repository))
    planned = snapshot_download(repository, revision=revision, cache_dir=cache, dry_run=True)
    ignored = _OTHER_FORMATS if any(file.filename.endswith(".safetensors") for file in planned) else ()
    missing = [file for file in planned if file.will_download and not _matches(file.filename, ignored)]
    total = sum(file.file_size or 0 for file in missing)
    free = shutil.disk_usage(cache).free
    if total > free:
        raise OSError(errno.ENOSPC, f"{_size(total)} are to be downloaded and {_size(free)} are free")
    logger.info("downloading repository=%s revision=%s files=%d bytes=%d", repository, revision, len(missing), total)
    with _progress_told(_folder(cache, repository), total):
        snapshot = Path(
            snapshot_download(repository, revision=revision, cache_dir=cache, ignore_patterns=list(ignored))
        )
    marker = _folder(cache, repository) / _MARKERS / snapshot.name
    marker.parent.mkdir(exist_ok=True)
    marker.touch()
    return snapshot


def _sweep(folder: Path) -> None:
    """Remove what killed downloads left behind: each has a name of its own, so no later one takes it up or away."""
    for file in folder.glob("blobs/*.incomplete"):
        try:
            if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                file.unlink()
        except FileNotFoundError:
            continue  # another replica was quicker


def _matches(name: str, patterns: Sequence[str]) -> bool:
    from huggingface_hub.utils._paths import filter_repo_objects  # noqa: PLC0415

    return not list(filter_repo_objects([name], ignore_patterns=list(patterns)))


@contextmanager
def _progress_told(folder: Path, total: int) -> Iterator[None]:
    done = threading.Event()
    began, before = time.monotonic(), _bytes_in(folder)

    def tell() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            got = _bytes_in(folder) - before
            logger.info(
                "downloading bytes=%d of=%d bytes_per_second=%.0f", got, total, got / (time.monotonic() - began)
            )

    threading.Thread(target=tell, name="download-progress", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _bytes_in(folder: Path) -> int:
    total = 0
    for file in folder.glob("blobs/*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue  # an incomplete file that was renamed meanwhile
    return total


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
