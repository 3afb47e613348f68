"""Which vLLM is taken, and what a person reads when it is another; each stands on disk as pip leaves it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError
from sundog_serving.vllm_engine import supported_version


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a vLLM of some version where importlib looks first: its metadata is all that is read of it."""

    def put(version: str) -> None:
        metadata = tmp_path / f"vllm-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.4\nName: vllm\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return put


# A release candidate counts as the release that it becomes, and a build as what it was built from.
@pytest.mark.parametrize("version", ["0.29.0rc1", "0.29.0", "0.30.1.dev7+gabc", "0.32.0+cpu", "0.32.9"])
def test_a_version_that_is_known_is_taken(version: str, install: Callable[[str], None]) -> None:
    install(version)
    assert supported_version() == version


@pytest.mark.parametrize("version", ["0.28.9", "0.28.9+cpu", "0.33.0rc1", "0.33.0", "1.0.0"])
def test_another_version_is_refused_with_the_range_and_what_to_do(version: str, install: Callable[[str], None]) -> None:
    install(version)
    with pytest.raises(EngineStartError) as caught:
        supported_version()
    assert caught.value.reason is Reason.ENGINE_VERSION_UNSUPPORTED
    assert caught.value.sentence == (
        f"this image has vLLM {version}, and this release of Sundog works with 0.29 to 0.32: set spec.engine.image to "
        "an image with one of these, or use another release of Sundog"
    )


def test_an_image_without_vllm_is_told_which_to_use_and_that_there_is_the_fake_engine() -> None:
    # There is none in the environment of the tests: it takes 6.5 GB, and has one of its own.
    with pytest.raises(EngineStartError) as caught:
        supported_version()
    assert caught.value.reason is Reason.ENGINE_VERSION_UNSUPPORTED
    assert caught.value.sentence == (
        "this image has no vLLM: use a serving image with vLLM 0.29 to 0.32, or spec.engine.name fake"
    )
