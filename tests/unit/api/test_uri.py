from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from sundog_operator.api.types import Model
from sundog_operator.api.uri import ModelURI, parse_model_uri

READABLE = {
    "Qwen/Qwen3-0.6B": ModelURI("hf", "Qwen", "Qwen3-0.6B"),
    "hf://Qwen/Qwen3-0.6B": ModelURI("hf", "Qwen", "Qwen3-0.6B"),
    "pvc://models": ModelURI("pvc", "models", ""),
    "pvc://models/": ModelURI("pvc", "models", ""),
    "pvc://models/a/b.c/": ModelURI("pvc", "models", "a/b.c"),
    "pvc://models/..a": ModelURI("pvc", "models", "..a"),
}
REFUSED = [
    "",
    "gpt2",
    "a/b/c",
    "hf://a/b/c",
    "HF://a/b",
    "s3://bucket/key",
    "gs://bucket/key",
    "oci://registry/image",
    "file:///etc/passwd",
    "http://169.254.169.254/",
    "/models",
    "../models",
    "a/b\n",
    "a/-b",
    "pvc://",
    "pvc:///models",
    "pvc://models/../other",
    "pvc://models/a/..",
    "pvc://models/./a",
    "pvc://models//a",
    "pvc://models/a b",
    "pvc://models/%2e%2e/a",
    "pvc://Models/a",
    "pvc://models/a\n",
    "pvc://mödels/a",
    "ä/b",
]


@pytest.mark.parametrize(("uri", "parsed"), READABLE.items())
def test_a_readable_uri_says_where_the_model_is(uri: str, parsed: ModelURI) -> None:
    assert parse_model_uri(uri) == parsed
    assert Model(uri=uri).location == parsed


@pytest.mark.parametrize("uri", REFUSED)
def test_any_other_uri_is_refused_with_what_can_be_read(uri: str) -> None:
    with pytest.raises(ValueError, match="this release reads hf://org/name"):
        parse_model_uri(uri)
    with pytest.raises(ValidationError):
        Model(uri=uri)


@given(some.text(alphabet="ab./:%-_ \n", max_size=12))
def test_no_path_ever_leaves_its_claim(path: str) -> None:
    try:
        parsed = parse_model_uri(f"pvc://claim/{path}")
    except ValueError:
        return
    steps = parsed.path.split("/")
    assert parsed.authority == "claim"
    assert not {".", ".."} & set(steps)
    assert parse_model_uri(str(parsed)) == parsed
