"""Looks at a model's folder before an engine does.

An engine takes half a minute to say what can be seen in milliseconds, and says it worse: safetensors reports weights
that it may not read as "No such file or directory". Standard library only.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError

_CONFIGS: Final = ("config.json", "params.json")  # Hugging Face's and Mistral's
_ADAPTER_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_NOT_WEIGHTS: Final = frozenset(
    {"training_args.bin", "optimizer.bin", "scheduler.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"}
)
_LFS_POINTER: Final = b"version https://git-lfs"
_LONGEST_HEADER: Final = 100_000_000  # bytes; safetensors' own limit


def check(path: Path, *, weights: bool = True) -> None:
    """Check that a folder (or GGUF file) holds a model that this process may read.

    Args:
        path: The folder, as the engine will get it.
        weights: Whether weights must be there; not so for load formats that bring their own.

    Raises:
        EngineStartError: ModelNotFound, ModelUnreadable or ModelInvalid.
    """
    _check_there(path)
    if path.is_file():
        _check_file(path)
        return
    files = sorted(_walk(path))
    for file in files:
        _check_file(file)
    _check_config(path)
    if weights:
        _check_weights(path, files)


def check_adapter(path: Path) -> None:
    """Check that a folder holds a LoRA adapter that this process may read.

    Raises:
        EngineStartError: ModelNotFound, ModelUnreadable or ModelInvalid.
    """
    _check_there(path)
    for name, what in ((_ADAPTER_CONFIG, "no adapter"), ("adapter_model.*", "without weights")):
        files = sorted(path.glob(name))
        if not files:
            raise EngineStartError(
                Reason.MODEL_INVALID,
                f"{path} has no {name}, so it is {what}; it holds {_listing(path)}: correct spec.model.uri",
            )
        for file in files:
            _check_file(file)
    try:
        json.loads((path / _ADAPTER_CONFIG).read_bytes())
    except ValueError as error:
        raise EngineStartError(
            Reason.MODEL_INVALID,
            f"{path / _ADAPTER_CONFIG} is not JSON ({error}): copy or download the adapter again",
        ) from error


def _check_there(path: Path) -> None:
    try:
        exists = path.exists()
    except PermissionError:  # a folder above it is closed
        exists = True
        _check_access(path, os.R_OK)
    if not exists:
        nearest = next(parent for parent in path.parents if parent.exists())
        raise EngineStartError(
            Reason.MODEL_NOT_FOUND,
            f"{path} does not exist; {nearest} holds {_listing(nearest)}: correct the path in spec.model.uri",
        )
    if path.is_dir():
        _check_access(path, os.R_OK | os.X_OK)
        if not any(path.iterdir()):
            raise EngineStartError(
                Reason.MODEL_NOT_FOUND, f"{path} is empty: put the model there, or correct spec.model.uri"
            )
    else:
        _check_access(path, os.R_OK)
        if path.suffix != ".gguf":
            raise EngineStartError(
                Reason.MODEL_INVALID, f"{path} is neither a folder nor a .gguf file: name the model's folder"
            )


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue  # .git, .cache, ..data: no engine reads them
        if entry.is_dir():
            _check_access(entry, os.R_OK | os.X_OK)
            yield from _walk(entry)
        else:
            yield entry


def _check_file(file: Path) -> None:
    if file.is_symlink() and not file.exists():
        raise EngineStartError(
            Reason.MODEL_INVALID,
            f"{file} is a link to {file.readlink()}, which is not there: copy the model with links resolved (cp -L)",
        )
    _check_access(file, os.R_OK)
    with file.open("rb") as opened:
        start = opened.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise EngineStartError(
            Reason.MODEL_INVALID, f"{file} is a Git LFS pointer, not the file itself: run git lfs pull"
        )
    if file.suffix == ".safetensors":
        _check_safetensors(file)


def _check_access(path: Path, wanted: int) -> None:
    if not os.access(path, wanted):
        try:
            stat = path.stat()
            who = f"it belongs to uid {stat.st_uid} with mode {stat.st_mode & 0o7777:04o}"
        except PermissionError:
            who = "not even its folder is open to it"
        raise EngineStartError(
            Reason.MODEL_UNREADABLE,
            f"uid {os.geteuid()} may not read {path}; {who}: "
            "run chmod -R a+rX on the model, or set fsGroup in the pod template",
        )


def _check_safetensors(file: Path) -> None:
    """Compare a file's length with what its own header says, which a broken-off copy does not reach."""
    size = file.stat().st_size
    try:
        whole = _length_by_header(file)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineStartError(
            Reason.MODEL_INVALID, f"{file} is not a safetensors file ({error}): copy or download it again"
        ) from error
    if whole > size:
        raise EngineStartError(
            Reason.MODEL_INVALID, f"{file} has {size} of {whole} bytes: the copy broke off, copy or download it again"
        )


def _length_by_header(file: Path) -> int:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError("no header")
        header: dict[str, Any] = json.loads(opened.read(length))
    ends = (tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    return 8 + length + int(max(ends, default=0))


def _check_config(folder: Path) -> None:
    config = next((folder / name for name in _CONFIGS if (folder / name).is_file()), None)
    if config is None:
        if any(folder.glob("*.gguf")):
            raise EngineStartError(
                Reason.MODEL_INVALID,
                f"{folder} holds {_listing(folder)} and no config.json: name the .gguf file itself in spec.model.uri",
            )
        raise EngineStartError(
            Reason.MODEL_INVALID,
            f"{folder} has no config.json, so it is not a model; it holds {_listing(folder)}: correct spec.model.uri",
        )
    try:
        document = json.loads(config.read_bytes())
    except ValueError as error:
        raise EngineStartError(
            Reason.MODEL_INVALID, f"{config} is not JSON ({error}): copy or download the model again"
        ) from error
    if config.name == _CONFIGS[0] and not (
        isinstance(document, dict) and (document.get("architectures") or document.get("model_type"))
    ):
        raise EngineStartError(
            Reason.MODEL_INVALID,
            f"{config} names neither architectures nor a model_type: it is not the configuration of a model",
        )


def _check_weights(folder: Path, files: Iterable[Path]) -> None:
    there = [file for file in files if file.suffix in _WEIGHTS and file.name not in _NOT_WEIGHTS]
    if not there:
        raise EngineStartError(
            Reason.MODEL_INVALID, f"{folder} has a configuration but no weights; it holds {_listing(folder)}"
        )
    for index in folder.glob("*.safetensors.index.json"):
        try:
            named = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise EngineStartError(
                Reason.MODEL_INVALID, f"{index} cannot be read ({error}): copy or download it again"
            ) from error
        missing = sorted(name for name in named if not (folder / name).exists())
        if missing:
            raise EngineStartError(
                Reason.MODEL_INVALID,
                f"{len(missing)} of {len(named)} weight files that {index.name} names are missing from {folder}, "
                f"{missing[0]} first: copy or download them again",
            )


def _listing(folder: Path, *, longest: int = 8) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except PermissionError:
        return "what this user may not list"
    if not names:
        return "nothing"
    more = len(names) - longest
    return ", ".join(names[:longest]) + (f" and {more} more" if more > 0 else "")
