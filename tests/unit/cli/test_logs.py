"""`logs`: the lines of several pods in one stream, read from a real HTTP server in place of the API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from sundog_cli import logs
from sundog_cli.logs import Wanted, write_logs
from tests.apiserver.cli.command_line import CommandLine
from tests.unit.cli.api_server import ApiServer, Container

SECONDS = 30.0
"""What comes is not waited for any longer; a machine that does other things too may be slow."""

Line = tuple[str, str]


@asynccontextmanager
async def following(server: ApiServer, *, lines: int = 100) -> AsyncIterator[Callable[[], Awaitable[Line]]]:
    """Follow, and give what waits for the next line; no others may come."""
    written: asyncio.Queue[Line] = asyncio.Queue()

    async def follow() -> None:
        async with server.cluster() as cluster:
            wanted = Wanted(follow=True, lines=lines)
            await write_logs(
                cluster,
                "qwen3",
                wanted,
                write=lambda *line: written.put_nowait(line),
                tell=pytest.fail,
            )

    async def line() -> Line:
        try:
            return await asyncio.wait_for(written.get(), SECONDS)
        except TimeoutError:
            return pytest.fail(f"no further line came in {SECONDS:g} s")

    task = asyncio.create_task(follow())
    try:
        yield line
        assert not task.done()
        assert written.empty()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOOK_AGAIN_SECONDS", 0.01)


async def test_the_lines_of_all_pods_come_each_with_its_pods_name(server: ApiServer, sundog: CommandLine) -> None:
    server.containers = {"one": Container(1, "old", "a", "b | ü"), "two": Container(2, "c")}
    done = await sundog("logs", "qwen3", "--tail=2")
    assert sorted(done.out.splitlines()) == ["one | a", "one | b | ü", "two | c"]
    assert done.err == ""


async def test_for_programs_each_line_is_an_object_that_names_its_pod(server: ApiServer, sundog: CommandLine) -> None:
    server.containers = {"one": Container(1, 'said "a"'), "two": Container(2, "b", "c")}
    done = await sundog("logs", "qwen3", "-o", "json")
    told = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(told, key=lambda each: str(each["line"])) == [
        {"pod": "two", "line": "b"},
        {"pod": "two", "line": "c"},
        {"pod": "one", "line": 'said "a"'},
    ]


async def test_what_a_container_wrote_before_its_restart_is_read_where_there_was_one(
    server: ApiServer, sundog: CommandLine
) -> None:
    server.containers = {"one": Container(1, "now", before=["then"]), "two": Container(2, "now")}
    done = await sundog("logs", "qwen3", "--previous")
    assert done.out == "one | then\n"
    assert done.err == 'two: previous terminated container "engine" in pod "two" not found.\n'


@pytest.mark.usefixtures("at_once")
async def test_a_pod_that_joins_later_is_followed_beside_the_others(server: ApiServer) -> None:
    server.containers = {"one": Container(1, "a")}
    async with following(server) as line:
        assert await line() == ("one", "a")
        server.containers["two"] = Container(2, "b")
        assert await line() == ("two", "b")
        await server.containers["one"].write("c")
        assert await line() == ("one", "c")
        await server.containers["two"].write("d")
        assert await line() == ("two", "d")


@pytest.mark.usefixtures("at_once")
async def test_a_container_that_restarts_is_read_from_its_very_start(server: ApiServer) -> None:
    first = Container(1, "old", "crashed")
    server.containers = {"one": first}
    async with following(server, lines=1) as line:
        assert await line() == ("one", "crashed")
        server.containers["one"] = Container(2, "starts", "loads")
        await first.end()
        assert [await line(), await line()] == [("one", "starts"), ("one", "loads")]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.usefixtures("at_once")
async def test_reading_ends_without_a_word_where_nobody_takes_the_lines(server: ApiServer, *, follow: bool) -> None:
    server.containers = {"one": Container(1, "a")}

    def gone(*_: str) -> None:
        raise BrokenPipeError

    async with server.cluster() as cluster:
        with pytest.raises(BrokenPipeError):
            await asyncio.wait_for(
                write_logs(cluster, "qwen3", Wanted(follow=follow), write=gone, tell=pytest.fail), SECONDS
            )
