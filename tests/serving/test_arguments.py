"""Engine arguments: what a person may write, and what is said when it is wrong."""

import argparse
from typing import Any

import pytest

from sundog_serving import arguments
from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError


def parser() -> argparse.ArgumentParser:
    """Options of each kind that vLLM has."""
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--max-model-len", type=int, default=None)
    options.add_argument("--dtype", choices=["auto", "float32"], default="auto")
    options.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction, default=False)
    options.add_argument("--headless", action="store_true", default=False)
    options.add_argument("--hf-overrides", type=str, default=None)
    options.add_argument("--allowed-media-domains", nargs="+", default=None)
    options.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    options.add_argument("--api-key", nargs="*", default=None)
    return options


def parse(**engine_args: Any) -> argparse.Namespace:
    return arguments.parse(parser(), engine_args, reserved={"api-key": "say it in spec.auth"}, engine="vLLM 1.2")


def refused(engine_args: dict[str, Any]) -> str:
    with pytest.raises(EngineStartError) as caught:
        arguments.parse(parser(), engine_args, reserved={"api-key": "say it in spec.auth"}, engine="vLLM 1.2")
    assert caught.value.reason is Reason.ENGINE_ARGUMENT_INVALID
    return caught.value.sentence


@pytest.mark.parametrize("name", ["max-model-len", "max_model_len", "--max-model-len"])
def test_names_may_be_written_in_kebab_or_snake_case(name: str) -> None:
    assert parse(**{name: 1024}).max_model_len == 1024


def test_values_of_every_kind_reach_the_engine_as_it_reads_them() -> None:
    parsed = parse(
        dtype="float32",
        enforce_eager=True,
        hf_overrides={"rope": {"factor": 2.5}},
        allowed_media_domains=["a.example", "b.example"],
        tensor_parallel_size=2,
        max_model_len=None,
    )
    assert parsed.dtype == "float32"
    assert parsed.enforce_eager is True
    assert parsed.hf_overrides == '{"rope": {"factor": 2.5}}'
    assert parsed.allowed_media_domains == ["a.example", "b.example"]
    assert parsed.tensor_parallel_size == 2
    assert parsed.max_model_len is None


def test_false_turns_off_what_is_on_by_default() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    parsed = arguments.parse(options, {"prefix-caching": False}, reserved={}, engine="vLLM 1.2")
    assert parsed.prefix_caching is False
    assert parse(headless=False).headless is False


def test_a_value_that_looks_like_an_option_stays_a_value() -> None:
    assert parse(hf_overrides="--trust-remote-code").hf_overrides == "--trust-remote-code"


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    assert refused({"max-modle-len": 5}) == (
        "spec.engine.args.max-modle-len: vLLM 1.2 has no such argument; did you mean max-model-len?"
    )
    assert refused({"zzz": 5}) == "spec.engine.args.zzz: vLLM 1.2 has no such argument"


def test_a_short_or_shortened_or_negated_name_is_not_an_argument() -> None:
    for name in ("tp", "max-model", "no-enforce-eager", "help"):
        assert "has no such argument" in refused({name: 1})


def test_a_wrong_value_names_the_argument_and_what_it_expects() -> None:
    assert refused({"max_model_len": "many"}) == "spec.engine.args.max-model-len: invalid int value: 'many'"
    assert "spec.engine.args.dtype: invalid choice: 'float33'" in refused({"dtype": "float33"})
    assert refused({"enforce-eager": "yes"}) == 'spec.engine.args.enforce-eager: expects true or false, not "yes"'
    assert "spec.engine.args.tensor-parallel-size: invalid int value" in refused({"tensor-parallel-size": 1.5})


def test_what_sundog_sets_itself_is_refused_with_the_place_to_say_it() -> None:
    assert refused({"api_key": "x"}) == "spec.engine.args.api_key is set by Sundog: say it in spec.auth"
