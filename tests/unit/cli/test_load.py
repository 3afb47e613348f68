"""`bench` and what it has in common with `chat`: streams, faults, figures, the plot, and tools that are driven.

A real HTTP server stands in place of an engine, and a real program in place of guidellm.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiohttp
import pytest

from sundog_cli.bench import Load, arrivals, command, drive, for_a_tool, installed, send
from sundog_cli.endpoint import DIRECTLY, THROUGH_API_SERVER, Endpoint, Piece, Refused
from sundog_cli.errors import Trouble
from sundog_cli.figures import Answered, figures, percentile, plot
from tests.apiserver.cli.command_line import CommandLine
from tests.unit.cli.engine import CUT, WHOLE, engine, event, token

LOAD = Load(per_second=200, requests=20, prompt_tokens=3, output_tokens=4)


async def _pieces(endpoint: Endpoint) -> list[Piece]:
    return [piece async for piece in endpoint.chat({"messages": []})]


async def test_an_answer_comes_in_its_pieces_with_the_count_of_its_tokens() -> None:
    async with engine(*WHOLE) as endpoint:
        pieces = await _pieces(endpoint)
    assert [(piece.text, piece.tokens) for piece in pieces] == [("one ", None), ("two", None), ("", 4)]


async def test_a_question_through_the_api_server_goes_in_chunks() -> None:
    async with engine(*WHOLE, via=THROUGH_API_SERVER) as endpoint:
        assert len(await _pieces(endpoint)) == 3


async def test_an_answer_that_has_come_is_whole_although_its_connection_is_lost_then() -> None:
    async with engine(*WHOLE, CUT) as endpoint:
        assert len(await _pieces(endpoint)) == 3


STATUS = {"kind": "Status", "message": 'services "qwen3:8000" is forbidden'}
REFUSALS = {
    "a full queue": ((json.dumps({"error": {"message": "busy"}}).encode(),), 429, "HTTP 429: busy (try again in 7 s)"),
    "words that are no JSON": ((b"<html>no</html>",), 502, "HTTP 502: <html>no</html>"),
    "the API server's own no": ((json.dumps(STATUS).encode(),), 403, "You may not do this: services"),
    "an error in the stream": ((event(error={"message": "engine died"}),), 200, "engine died"),
    "a lost connection": ((token("one"), CUT), 200, "the connection was lost"),
    "an end before the end": ((token("one"),), 200, "ended early"),
    "no stream at all": ((b"data: hello\n\n",), 200, "no stream of chat completions"),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_an_answer_that_is_none_is_told_in_the_words_of_who_gave_it(case: str) -> None:
    parts, status, words = REFUSALS[case]
    async with engine(*parts, status=status) as endpoint:
        with pytest.raises(Refused) as refused:
            await _pieces(endpoint)
    assert words in str(refused.value)


async def test_a_load_is_sent_when_it_is_due_and_measured_from_there() -> None:
    async with engine(*WHOLE) as endpoint:
        answered = await send(endpoint, LOAD, on_answer=lambda _: None)
    told = figures(answered)
    assert (told.requests, told.whole, told.faults) == (20, 20, {})
    assert [each.due for each in answered] == arrivals(LOAD)
    assert all(each.tokens == 4 and each.first_token and each.first_token >= each.due for each in answered)
    assert told.time_to_first_token


async def test_failures_are_counted_and_leave_the_latencies_alone() -> None:
    async with engine(b"{}", status=429) as endpoint:
        told = figures(await send(endpoint, LOAD, on_answer=lambda _: None))
    assert told.whole == 0
    assert list(told.faults.values()) == [20]
    assert told.time_to_first_token is None


async def test_a_tool_reaches_the_service_through_this_machine_and_gets_no_credentials() -> None:
    async with engine(*WHOLE) as direct, for_a_tool(direct) as url:
        assert url == direct.url
    async with engine(*WHOLE, via=THROUGH_API_SERVER) as behind, for_a_tool(behind) as url:
        assert url != behind.url
        async with aiohttp.ClientSession() as session:
            relayed = Endpoint(session, url, "qwen3", DIRECTLY)
            assert [piece.text for piece in await _pieces(relayed)] == ["one ", "two", ""]


@pytest.mark.parametrize("path", ["/v1/../../secret", "/v1/%2e%2e/%2e%2e/secret", "/v1/..%2f..%2fsecret", "/secret"])
async def test_a_tool_cannot_step_past_the_service(path: str) -> None:
    async with engine(*WHOLE, via=THROUGH_API_SERVER) as behind, for_a_tool(behind) as url:
        host, _, port = url.removeprefix("http://").removesuffix("/v1").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b"404" in answer.splitlines()[0]
    assert b"a secret of another Service" not in answer


async def test_an_endpoint_that_is_away_is_a_fault_and_no_traceback() -> None:
    async with aiohttp.ClientSession() as session:
        nowhere = Endpoint(session, "http://127.0.0.1:1/v1", "qwen3", DIRECTLY)
        told = figures(await asyncio.wait_for(send(nowhere, LOAD, on_answer=lambda _: None), 10))
    assert sum(told.faults.values()) == 20


def test_arrivals_come_at_the_rate_that_was_asked_for() -> None:
    due = arrivals(Load(per_second=10, requests=2000, prompt_tokens=1, output_tokens=1))
    assert due == sorted(due)
    assert due[-1] == pytest.approx(200, rel=0.1)
    assert due == arrivals(Load(per_second=10, requests=2000, prompt_tokens=1, output_tokens=1))


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(each) for each in range(1, 101)]
    assert [percentile(values, each) for each in (50, 90, 99)] == [50.0, 90.0, 99.0]
    assert percentile([3.0], 99) == 3.0


PLOT = """\
time to first token, slowest of each moment
   1.200 s ┤         █
   1.000 s ┤         █
   0.800 s ┤         █
   0.600 s ┤    █    █
   0.400 s ┤    █    █
   0.200 s ┤█   █    █
           └──────────
            0     10 s"""


def test_the_plot_shows_when_it_was_slow() -> None:
    answered = [Answered(due, first_token=due + late, ended=due + 2, tokens=3) for due, late in ((0, 0.2), (4, 0.6))]
    answered += [Answered(10, first_token=11.2, ended=12, tokens=3), Answered(5, fault="busy")]
    assert plot(answered, columns=10) == PLOT
    assert plot([Answered(5, fault="busy")]) == ""


def test_tools_are_told_the_same_load() -> None:
    for tool, words in {
        "guidellm": ("run", "target=http://h:1/p,", "kind=poisson,rate=200", "prompt_tokens=3,output_tokens=4"),
        "vllm": ("serve", "--base-url=http://h:1/p", "--request-rate=200", "--num-prompts=20", "--tokenizer=a/b"),
    }.items():
        line = " ".join(command(tool, url="http://h:1/p/v1", model="qwen3", tokenizer="a/b", load=LOAD))
        assert all(word in line for word in (tool, "model=qwen3", *words)), line


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands first in PATH."""
    found = tmp_path / "programs"
    found.mkdir()
    monkeypatch.setenv("PATH", f"{found}:{os.environ['PATH']}")
    return found


def install(program: Path, *lines: str, mode: int = 0o755) -> None:
    program.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    program.chmod(mode)


def test_guidellm_is_taken_before_vllm(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    assert installed() is None
    install(programs / "vllm")
    assert installed() == "vllm"
    install(programs / "guidellm", mode=0o644)
    assert installed() == "vllm", "what cannot be run is not installed"
    install(programs / "guidellm")
    assert installed() == "guidellm"


async def test_a_tool_gets_its_arguments_as_they_are_and_its_exit_code_comes_back(
    programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install(programs / "guidellm", 'printf "%s\\n" "$0" "$@"', "exit 3")
    assert await drive(["guidellm", "run", "--data=a b", "$HOME *"]) == 3
    assert capfd.readouterr().out.splitlines() == [str(programs / "guidellm"), "run", "--data=a b", "$HOME *"]


async def test_a_tool_does_not_outlive_the_command_that_drives_it(programs: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")
    install(programs / "guidellm", f'echo $$ > "{tmp_path}/started"', "exec sleep 600")
    driving = asyncio.create_task(drive(["guidellm"]))
    process = int(await asyncio.to_thread((tmp_path / "started").read_text))
    driving.cancel()  # as Ctrl-C does
    with pytest.raises(asyncio.CancelledError):
        await driving
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_a_tool_that_cannot_be_started_is_told_with_the_reason(programs: Path) -> None:
    with pytest.raises(Trouble, match=r"^guidellm cannot be started: No such file or directory\.$"):
        await drive(["guidellm"])
    install(programs / "guidellm", mode=0o644)
    with pytest.raises(Trouble, match=r"^guidellm cannot be started: Permission denied\.$"):
        await drive(["guidellm"])


async def test_bench_ends_as_the_tool_that_is_installed_does(sundog: CommandLine, programs: Path) -> None:
    install(programs / "guidellm", 'test "$1" = run || exit 4', "exit 3")
    async with engine(*WHOLE) as there:
        done = await sundog("bench", "qwen3", f"--url={there.url}", code=3)
    done.says(
        "Reaching qwen3 at http://", "Running: guidellm run", f"target={there.url.removesuffix('/v1')},model=qwen3"
    )
    done.says("kind=huggingface_auto,model=Qwen/Qwen3-0.6B")
