"""What can be seen of a model before an engine is started."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sundog_serving import preflight
from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError

SERVING = Path(preflight.__file__).parents[1]
NOBODY = 65534


def safetensors(*, tensor_bytes: int = 16) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "__metadata__": {}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(tensor_bytes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_bytes(safetensors())
    (folder / "tokenizer.json").write_text("{}")
    return folder


def found(path: Path, reason: Reason) -> str:
    with pytest.raises(EngineStartError) as caught:
        preflight.check(path)
    assert caught.value.reason is reason
    return caught.value.sentence


def test_a_sound_model_passes(model: Path) -> None:
    preflight.check(model)


def test_a_missing_path_is_told_with_what_there_is_instead(model: Path) -> None:
    sentence = found(model.parent / "modle" / "deep", Reason.MODEL_NOT_FOUND)
    assert f"{model.parent} holds model" in sentence


def test_an_empty_folder_is_not_found(tmp_path: Path) -> None:
    assert "is empty" in found(tmp_path, Reason.MODEL_NOT_FOUND)


def test_a_folder_without_a_configuration_is_not_a_model(model: Path) -> None:
    (model / "config.json").unlink()
    sentence = found(model, Reason.MODEL_INVALID)
    assert "has no config.json" in sentence
    assert "model.safetensors" in sentence


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"x"'])
def test_a_configuration_that_is_none_is_told(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    assert "config.json" in found(model, Reason.MODEL_INVALID)


def test_a_configuration_of_mistral_counts(model: Path) -> None:
    (model / "config.json").rename(model / "params.json")
    preflight.check(model)


def test_weights_must_be_there_unless_the_load_format_brings_its_own(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "training_args.bin").write_bytes(b"x")
    assert "no weights" in found(model, Reason.MODEL_INVALID)
    preflight.check(model, weights=False)


def test_a_shard_that_the_index_names_must_be_there(model: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors", "c": "model-3.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    sentence = found(model, Reason.MODEL_INVALID)
    assert "2 of 3 weight files" in sentence
    assert "model-2.safetensors" in sentence


def test_weights_whose_copy_broke_off_are_told_with_their_lengths(model: Path) -> None:
    (model / "model.safetensors").write_bytes(safetensors(tensor_bytes=7))
    whole = len(safetensors())
    assert f"has {whole - 9} of {whole} bytes" in found(model, Reason.MODEL_INVALID)


@pytest.mark.parametrize("content", [b"", b"x", b"<html>not a model</html>", (10**15).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_is_told(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    assert "is not a safetensors file" in found(model, Reason.MODEL_INVALID)


def test_a_git_lfs_pointer_is_told(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16\n")
    assert "run git lfs pull" in found(model, Reason.MODEL_INVALID)


def test_a_link_to_nowhere_is_told(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("../../blobs/0123")
    sentence = found(model, Reason.MODEL_INVALID)
    assert "../../blobs/0123" in sentence
    assert "cp -L" in sentence


def test_a_gguf_file_may_stand_alone_but_its_folder_may_not(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    preflight.check(file)
    assert "name the .gguf file itself" in found(tmp_path, Reason.MODEL_INVALID)
    (tmp_path / "notes.txt").write_text("x")
    assert "neither a folder nor a .gguf file" in found(tmp_path / "notes.txt", Reason.MODEL_INVALID)


def test_hidden_files_do_not_matter(model: Path) -> None:
    (model / ".cache").mkdir()
    (model / ".cache" / "x.safetensors").write_bytes(b"x")
    preflight.check(model)


def as_nobody(path: Path) -> str:
    """Check as a user who owns nothing, as a pod's user does; root may read everything."""
    script = (
        "import sys, pathlib; from sundog_serving import preflight\n"
        "try: preflight.check(pathlib.Path(sys.argv[1]))\n"
        "except preflight.EngineStartError as error: print(error)"
    )
    done = subprocess.run(
        # Debian's interpreter: the one of the environment may stand in root's home.
        ["/usr/bin/python3", "-c", script, str(path)],
        env={"PYTHONPATH": str(SERVING), "PYTHONDONTWRITEBYTECODE": "1"},
        user=NOBODY,
        group=NOBODY,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
@pytest.mark.parametrize(("name", "mode"), [("model.safetensors", 0o600), ("config.json", 0o600), (".", 0o700)])
def test_what_the_user_may_not_read_is_unreadable_and_not_missing(model: Path, name: str, mode: int) -> None:
    for folder in (*model.parents, model):
        if str(folder).startswith("/tmp/") or folder == model:
            folder.chmod(0o755)
    assert as_nobody(model) == ""
    (model / name).chmod(mode)
    sentence = as_nobody(model)
    assert sentence.startswith(f"ModelUnreadable: uid {NOBODY} may not read {(model / name).resolve()}")
    assert f"with mode {mode:04o}" in sentence
    assert "chmod -R a+rX" in sentence


@needs_root
def test_a_closed_folder_above_the_model_is_unreadable(model: Path) -> None:
    model.parent.chmod(0o700)
    assert as_nobody(model).startswith(f"ModelUnreadable: uid {NOBODY} may not read {model}")


def test_the_preflight_needs_the_standard_library_only() -> None:
    script = "import sys, sundog_serving.preflight; print(*(m for m in sys.modules if m in {'ray', 'huggingface_hub'}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(safetensors())
    return folder


def test_a_sound_adapter_passes(adapter: Path) -> None:
    preflight.check_adapter(adapter)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    preflight.check_adapter(adapter)


@pytest.mark.parametrize(
    ("file", "content", "reason", "says"),
    [
        ("adapter_config.json", None, Reason.MODEL_INVALID, "has no adapter_config.json, so it is no adapter"),
        ("adapter_config.json", b"{", Reason.MODEL_INVALID, "adapter_config.json is not JSON"),
        ("adapter_model.safetensors", None, Reason.MODEL_INVALID, "has no adapter_model.*, so it is without weights"),
        (
            "adapter_model.safetensors",
            safetensors()[:-1],
            Reason.MODEL_INVALID,
            "the copy broke off, copy or download it again",
        ),
        (
            "adapter_model.safetensors",
            b"version https://git-lfs.github.com/spec/v1",
            Reason.MODEL_INVALID,
            "is a Git LFS pointer",
        ),
    ],
)
def test_what_is_wrong_with_an_adapter_is_told(
    adapter: Path, file: str, content: bytes | None, reason: Reason, says: str
) -> None:
    if content is None:
        (adapter / file).unlink()
    else:
        (adapter / file).write_bytes(content)
    with pytest.raises(EngineStartError) as caught:
        preflight.check_adapter(adapter)
    assert caught.value.reason is reason
    assert says in caught.value.sentence
