"""Models from the hub: downloaded once, resumed, found again without a network, and every refusal in a sentence."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving import hub as hubs
from tests.serving.hub import COMMIT, GOOD_TOKEN, OLDER, Hub
from tests.serving.test_preflight import safetensors

REPOSITORY = "acme/tiny"
LARGE = safetensors(tensor_bytes=25_000_000)  # the library keeps what came in by pieces of 10 MB
Fetch = Callable[..., dict[str, str]]


class Fetcher:
    """A process that fetches models from one endpoint."""

    def __init__(self, endpoint: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.fetcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": ":".join(sys.path),
                "HF_ENDPOINT": endpoint,
                "HF_HUB_ETAG_TIMEOUT": "5",
                "HF_HUB_DISABLE_XET": "1",
                **environ,
            },
        )

    def fetch(self, **wanted: str) -> dict[str, str]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        answer: dict[str, str] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Hub, Fetcher]]:
    with hubs.running() as hub:
        fetcher = Fetcher(hub.url)
        yield hub, fetcher
        fetcher.close()


@pytest.fixture
def hub(shared: tuple[Hub, Fetcher]) -> Hub:
    """The stand-in as new: one sound model in it."""
    hub = shared[0]
    fresh = Hub(url=hub.url)
    fresh.repositories[REPOSITORY] = {
        "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
        "model.safetensors": safetensors(tensor_bytes=3_000_000),
        "pytorch_model.bin": b"the same weights, once more",
        "original/consolidated.00.pth": b"and again",
        "tokenizer.json": b"{}",
    }
    vars(hub).update(vars(fresh))
    return hub


@pytest.fixture
def fetch(shared: tuple[Hub, Fetcher], hub: Hub, tmp_path: Path) -> Fetch:
    assert hub is shared[0]

    def call(**wanted: str) -> dict[str, str]:
        return shared[1].fetch(**{"uri": f"hf://{REPOSITORY}", "HF_HOME": str(tmp_path / "cache"), **wanted})

    return call


def test_a_model_is_downloaded_whole_and_in_one_format_only(hub: Hub, fetch: Fetch) -> None:
    path = Path(fetch()["path"])
    assert path.name == COMMIT
    assert sorted(entry.name for entry in path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (path / "model.safetensors").read_bytes() == hub.repositories[REPOSITORY]["model.safetensors"]


def test_an_adapter_comes_from_the_hub_as_a_model_does(hub: Hub, fetch: Fetch) -> None:
    hub.repositories["acme/french"] = {"adapter_config.json": b"{}", "adapter_model.safetensors": safetensors()}
    path = Path(fetch(uri="hf://acme/french", adapter="yes")["path"])
    assert sorted(entry.name for entry in path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_what_is_said_of_an_adapter_names_the_fields_of_an_adapter(fetch: Fetch) -> None:
    sentence = fetch(uri="hf://acme/nothing", adapter="yes")["sentence"]
    assert "correct spec.model.lora.adapters[].uri" in sentence
    assert "has no adapter_config.json" in fetch(adapter="yes")["sentence"], "a model is no adapter"
    sentence = fetch(revision="none", adapter="yes")["sentence"]
    assert "correct spec.model.lora.adapters[].revision" in sentence


def test_a_model_without_safetensors_comes_as_it_is(hub: Hub, fetch: Fetch) -> None:
    del hub.repositories[REPOSITORY]["model.safetensors"]
    assert (Path(fetch()["path"]) / "pytorch_model.bin").exists()


@pytest.mark.parametrize("revision", ["main", "old", COMMIT])
def test_a_revision_in_the_cache_needs_no_network(hub: Hub, fetch: Fetch, revision: str) -> None:
    first = fetch(revision=revision)
    hub.requests.clear()
    hub.status = 503
    assert fetch(revision=revision) == first
    assert hub.requests == []


def test_another_revision_is_another_snapshot(fetch: Fetch) -> None:
    assert Path(fetch(revision="old")["path"]).name == OLDER
    assert Path(fetch(revision=COMMIT)["path"]).name == COMMIT


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: Hub, fetch: Fetch) -> None:
    hub.repositories[REPOSITORY]["model.safetensors"] = LARGE
    hub.break_off["model.safetensors"] = [12_000_000, 11_000_000]
    path = Path(fetch()["path"])
    assert (path / "model.safetensors").read_bytes() == hub.repositories[REPOSITORY]["model.safetensors"]
    ranges = [request.range for request in hub.downloads("model.safetensors")]
    assert ranges[0] is None
    assert all(text and int(text.removeprefix("bytes=").rstrip("-")) >= 10_000_000 for text in ranges[1:]), ranges


def test_a_download_that_was_given_up_keeps_what_came_in_whole(hub: Hub, fetch: Fetch) -> None:
    hub.break_off["model.safetensors"] = [0] * 50
    failed = fetch()
    assert failed["reason"] == "ModelDownloadFailed"
    assert "broke off" in failed["sentence"]
    hub.break_off.clear()
    hub.requests.clear()
    path = Path(fetch()["path"])
    assert (path / "model.safetensors").read_bytes() == hub.repositories[REPOSITORY]["model.safetensors"]
    assert len(hub.downloads("model.safetensors")) == 1
    assert hub.downloads("config.json") == hub.downloads("tokenizer.json") == []


def test_what_a_killed_download_left_behind_is_removed_once_it_is_old(fetch: Fetch, tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / "hub" / "models--acme--tiny" / "blobs"
    blobs.mkdir(parents=True)
    old, young = blobs / "a.1.incomplete", blobs / "b.2.incomplete"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (0, 0))
    fetch()
    assert not old.exists()
    assert young.exists()


def test_a_half_downloaded_model_is_not_taken_for_a_whole_one(hub: Hub, fetch: Fetch) -> None:
    hub.break_off["tokenizer.json"] = [0] * 50
    assert fetch()["reason"] == "ModelDownloadFailed"
    hub.status = 503
    assert "path" not in fetch()


def test_the_token_is_sent_and_opens_what_it_may(hub: Hub, fetch: Fetch) -> None:
    fetch(HF_TOKEN=GOOD_TOKEN)
    assert {request.token for request in hub.requests if request.path.startswith("/api/models")} == {GOOD_TOKEN}


def test_a_gated_model_without_and_with_a_token_is_told(hub: Hub, fetch: Fetch) -> None:
    hub.gated.add(REPOSITORY)
    without = fetch()
    assert without["reason"] == "ModelDownloadFailed"
    assert "is gated" in without["sentence"]
    assert "a request without a token with 401" in without["sentence"]
    with_one = fetch(HF_TOKEN=GOOD_TOKEN)
    assert "the token of spec.model.tokenSecretRef with 403" in with_one["sentence"]
    assert GOOD_TOKEN not in with_one["sentence"]


def test_a_model_that_does_not_exist_is_not_found(hub: Hub, fetch: Fetch) -> None:
    assert hub.repositories
    missing = fetch(uri="hf://acme/missing", HF_TOKEN=GOOD_TOKEN)
    assert missing["reason"] == "ModelNotFound"
    assert "has no acme/missing, or does not show it to the token" in missing["sentence"]
    assert "spec.model.uri" in missing["sentence"]
    assert fetch(uri="hf://acme/missing")["reason"] == "ModelNotFound"


def test_a_token_that_is_not_valid_is_told(fetch: Fetch) -> None:
    refused = fetch(HF_TOKEN="hf_expired")
    assert refused["reason"] == "ModelDownloadFailed"
    assert "refused the token of spec.model.tokenSecretRef with 401" in refused["sentence"]
    assert "hf_expired" not in refused["sentence"]


def test_a_revision_that_does_not_exist_is_not_found(fetch: Fetch) -> None:
    missing = fetch(revision="v9")
    assert missing["reason"] == "ModelNotFound"
    assert "has no revision 'v9'" in missing["sentence"]
    assert "spec.model.revision" in missing["sentence"]


def test_a_model_that_is_none_is_told_after_its_download(hub: Hub, fetch: Fetch) -> None:
    del hub.repositories[REPOSITORY]["config.json"]
    assert fetch()["reason"] == "ModelInvalid"


@pytest.mark.parametrize("uri", ["hf://tiny", "hf://../../etc", "hf://acme/tiny/extra", "hf://acme/ti ny"])
def test_a_uri_that_names_no_repository_is_refused(fetch: Fetch, uri: str) -> None:
    assert fetch(uri=uri)["reason"] == "ModelNotFound"


def test_a_scheme_that_cannot_be_fetched_is_told(fetch: Fetch) -> None:
    assert "cannot fetch s3:// models; it can pvc and hf" in fetch(uri="s3://bucket/model")["sentence"]


def test_a_cache_that_may_not_be_written_is_told(fetch: Fetch) -> None:
    refused = fetch(HF_HOME="/sys/sundog")
    assert refused["reason"] == "ModelDownloadFailed"
    assert "may not write to the cache /sys/sundog/hub" in refused["sentence"]


def test_a_cache_without_room_is_told_before_the_download(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        full = fetch(HF_HOME=str(small))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert full["reason"] == "ModelDownloadFailed"
    assert "has no room for acme/tiny" in full["sentence"]
    assert "3.0 MB are to be downloaded" in full["sentence"]
    assert hub.downloads("model.safetensors") == []


def test_a_hub_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    fetcher = Fetcher("http://127.0.0.1:9")  # the discard port: nobody listens
    try:
        failed = fetcher.fetch(uri=f"hf://{REPOSITORY}", HF_HOME=str(tmp_path))
    finally:
        fetcher.close()
    assert failed["reason"] == "ModelDownloadFailed"
    assert "http://127.0.0.1:9 cannot be reached for acme/tiny" in failed["sentence"]
    assert "HF_ENDPOINT" in failed["sentence"]


def test_a_hub_in_trouble_is_told(hub: Hub, fetch: Fetch) -> None:
    hub.status = 500
    failed = fetch()
    assert failed["reason"] == "ModelDownloadFailed"
    assert "answered 500" in failed["sentence"]
