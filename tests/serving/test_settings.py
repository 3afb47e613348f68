"""The arguments of the application, the errors, and the head's part."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError
from sundog_serving.settings import Settings
from tests.serving.conftest import application_args


def test_settings_are_read_from_what_the_operator_sends() -> None:
    args = application_args("vllm", {"dtype": "auto"}, uri="pvc://claim/a/b", path="/mnt/model/a/b", revision="main")
    settings = Settings.from_args({**args, "attempt": 3})
    assert settings.engine == "vllm"
    assert settings.model.path == Path("/mnt/model/a/b")
    assert settings.model.revision == "main"
    assert settings.engine_args == {"dtype": "auto"}
    assert settings.request_timeout_seconds == 600


@pytest.mark.parametrize("broken", [{}, {"engine": "fake"}, {"engine": "fake", "model": {"uri": "hf://a/b"}}])
def test_arguments_of_another_release_are_refused_in_a_sentence(broken: dict[str, object]) -> None:
    with pytest.raises(EngineStartError, match="operator and serving image must be of the same release"):
        Settings.from_args(broken)


def test_an_engine_that_does_not_exist_is_refused() -> None:
    with pytest.raises(EngineStartError, match="there is no engine 'other'"):
        Settings.from_args(application_args("other"))


def test_an_error_is_one_line_of_bounded_length_and_survives_pickling() -> None:
    error = EngineStartError(Reason.MODEL_INVALID, "first\n  second " + "x" * 5000)
    assert str(error).startswith("ModelInvalid: first second xxx")
    assert "\n" not in str(error)
    assert len(str(error)) < 1100
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == (str(error), error.reason)


def test_the_head_builds_the_application_without_any_engine() -> None:
    """The head's image has no vLLM; importing it by accident would fail every deployment there."""
    script = (
        "import sys; from sundog_serving.app import build\n"
        "build({'engine': 'vllm', 'model': {'uri': 'pvc://a/b', 'path': '/mnt/model/b', 'name': 'm'}})\n"
        "found = {'vllm', 'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
