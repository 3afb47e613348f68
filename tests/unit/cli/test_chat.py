"""`chat` with one question: its answer as it comes for a person, and as one document for programs."""

from __future__ import annotations

import yaml

from tests.apiserver.cli.command_line import CommandLine
from tests.unit.cli.engine import CUT, DONE, USAGE, WHOLE, engine, event, token

USED = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13})
ENDED = event(choices=[{"delta": {"content": ""}, "finish_reason": "stop"}])
CUT_SHORT = event(choices=[{"delta": {"content": "two"}, "finish_reason": "length"}])


async def test_an_answer_is_written_for_programs_with_its_tokens_and_its_latencies(sundog: CommandLine) -> None:
    asked: list[dict[str, object]] = []
    async with engine(token("one\n"), token("zwölf"), ENDED, USED, DONE, asked=asked) as there:
        done = await sundog("chat", "qwen3", "hi", "--system=be brief", "-o", "json", f"--url={there.url}")
    told = done.json
    assert 0 < told.pop("time_to_first_token") < told.pop("total")
    assert told == {"text": "one\nzwölf", "finish_reason": "stop", "prompt_tokens": 9, "output_tokens": 4}
    assert (done.out[-2:], done.err) == ("}\n", "")
    assert [question["messages"] for question in asked] == [
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    ]


async def test_what_an_engine_does_not_say_is_null(sundog: CommandLine) -> None:
    for parts, said in {
        (token("one"), DONE): ("one", None, None, None),
        (token("one "), CUT_SHORT, USAGE, DONE): ("one two", "length", None, 4),
        (ENDED, USED, DONE): ("", "stop", 9, 4),
    }.items():
        async with engine(*parts) as there:
            told = (await sundog("chat", "qwen3", "hi", "-o", "json", f"--url={there.url}")).json
        assert tuple(told[key] for key in ("text", "finish_reason", "prompt_tokens", "output_tokens")) == said
        assert (told["time_to_first_token"] is None) == (said[0] == "")


async def test_yaml_has_the_same(sundog: CommandLine) -> None:
    async with engine(*WHOLE) as there:
        done = await sundog("chat", "qwen3", "hi", "-o", "yaml", f"--url={there.url}")
    assert yaml.safe_load(done.out)["text"] == "one two"


async def test_for_a_person_it_is_the_text_and_nothing_else(sundog: CommandLine) -> None:
    async with engine(*WHOLE[:-1], ENDED, DONE) as there:
        assert (await sundog("chat", "qwen3", "hi", f"--url={there.url}")).out == "one two\n"


async def test_half_an_answer_is_no_document(sundog: CommandLine) -> None:
    async with engine(token("one"), CUT) as there:
        done = await sundog("chat", "qwen3", "hi", "-o", "json", f"--url={there.url}", code=2)
    assert done.out == ""
    done.says("error: qwen3 did not answer (at http://", "the connection was lost")


async def test_a_conversation_is_not_written_for_programs(sundog: CommandLine) -> None:
    done = await sundog("chat", "qwen3", "-o", "json", code=2)
    assert done.out == ""
    done.says("error: --output needs a PROMPT: it writes one answer. For a conversation leave it out.\n")
