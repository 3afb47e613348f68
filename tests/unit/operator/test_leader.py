"""The Lease: never two that may write, and a quick take-over. Clocks are simulated, the Lease's rules are real."""

from __future__ import annotations

import copy
import string
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sundog_operator.core.names import Manifest
from sundog_operator.leader import Leader, LeaseLost

LEASE_SECONDS = 15


class RefusedError(Exception):
    """The server did not do it, or its answer was lost."""


class EndOfTestError(Exception):
    """Time is up."""


class Server:
    """One Lease with optimistic concurrency, and a time that all share."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lease: Manifest | None = None
        self.version = 0
        self.writes = 0

    def store(self, manifest: Manifest) -> Manifest:
        self.version += 1
        self.writes += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)


class Line:
    """One candidate's line to the server: it can be cut before the request, or after it and before the answer."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.refuse = False
        self.lose_answer = False
        self.takes_seconds = 0.0
        self.before_answer: Callable[[], None] = lambda: None

    @property
    def error(self) -> type[Exception]:
        return RefusedError

    def empty(self) -> Manifest:
        return {"metadata": {}, "spec": {}}

    async def read(self) -> Manifest | None:
        if self.refuse:
            raise RefusedError
        return copy.deepcopy(self.server.lease)

    async def create(self, manifest: Manifest) -> Manifest:
        if self.refuse or self.server.lease is not None:
            raise RefusedError
        return self._answer(self.server.store(manifest))

    async def replace(self, manifest: Manifest) -> Manifest:
        self.server.now += self.takes_seconds
        if self.refuse or self.server.lease is None:
            raise RefusedError
        if manifest["metadata"]["resourceVersion"] != self.server.lease["metadata"]["resourceVersion"]:
            raise RefusedError
        return self._answer(self.server.store(manifest))

    def _answer(self, stored: Manifest) -> Manifest:
        self.before_answer()
        if self.lose_answer:
            raise RefusedError
        return stored


def candidate(server: Server, name: str) -> tuple[Leader, Line]:
    line = Line(server)

    async def sleep(seconds: float) -> None:
        server.now += seconds

    leader = Leader(line, identity=name, lease_seconds=LEASE_SECONDS, clock=lambda: server.now, sleep=sleep)
    return leader, line


def run_now(steps: object) -> object:
    """Run a coroutine that never waits for anything."""
    with pytest.raises(StopIteration) as stopped:
        steps.send(None)  # type: ignore[attr-defined]
    return stopped.value.value


class NeverTwo(RuleBasedStateMachine):
    """Three candidates, any faults in any order: at no time may two of them write."""

    @initialize()
    def begin(self) -> None:
        self.server = Server()
        self.candidates = [candidate(self.server, name) for name in string.ascii_lowercase[:3]]

    @rule(who=st.integers(0, 2))
    def attempts(self, who: int) -> None:
        run_now(self.candidates[who][0].attempt())

    @rule(who=st.integers(0, 2), refuse=st.booleans(), takes=st.floats(0, 20))
    def attempts_with_faults(self, who: int, *, refuse: bool, takes: float) -> None:
        leader, line = self.candidates[who]
        line.refuse, line.lose_answer, line.takes_seconds = refuse, not refuse, takes
        run_now(leader.attempt())
        line.refuse, line.lose_answer, line.takes_seconds = False, False, 0.0

    @rule(who=st.integers(0, 2), takes=st.floats(0, 20))
    def attempts_slowly(self, who: int, takes: float) -> None:
        leader, line = self.candidates[who]
        line.takes_seconds = takes
        run_now(leader.attempt())
        line.takes_seconds = 0.0

    @rule(who=st.integers(0, 2), other=st.integers(0, 2), takes=st.floats(0, 20))
    def attempts_and_hears_late_what_another_saw_at_once(self, who: int, other: int, takes: float) -> None:
        leader, line = self.candidates[who]

        def meanwhile() -> None:
            if other != who:
                run_now(self.candidates[other][0].attempt())
            self.server.now += takes

        line.before_answer = meanwhile
        run_now(leader.attempt())
        line.before_answer = lambda: None

    @rule(who=st.integers(0, 2))
    def releases(self, who: int) -> None:
        run_now(self.candidates[who][0].release())

    @rule(who=st.integers(0, 2))
    def dies_and_starts_anew(self, who: int) -> None:
        self.candidates[who] = candidate(self.server, string.ascii_lowercase[who])

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.server.now += seconds

    @rule()
    def the_lease_is_deleted_when_nobody_writes(self) -> None:
        # A person who deletes the Lease of a living holder asks for two.
        if not self.may_write():
            self.server.lease = None

    def may_write(self) -> list[str]:
        return [leader.identity for leader, _ in self.candidates if leader.seconds_left() > 0]

    @invariant()
    def at_most_one_may_write(self) -> None:
        if hasattr(self, "server"):
            assert len(self.may_write()) <= 1


TestNeverTwo = NeverTwo.TestCase
TestNeverTwo.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


async def test_a_holder_stops_writing_before_another_may_begin() -> None:
    server = Server()
    (first, first_line), (second, _) = candidate(server, "a"), candidate(server, "b")
    await first.acquire()
    await second.attempt()  # sees the renewal
    first_line.refuse = True
    stopped, began = None, None
    for _ in range(400):
        server.now += 0.1
        await first.attempt()
        await second.attempt()
        if stopped is None and first.seconds_left() <= 0:
            stopped = server.now
        if began is None and second.seconds_left() > 0:
            began = server.now
    assert stopped
    assert began
    assert began - stopped >= LEASE_SECONDS / 3 - 0.2


async def test_a_released_lease_is_taken_at_the_next_look() -> None:
    server = Server()
    (first, _), (second, _) = candidate(server, "a"), candidate(server, "b")
    await first.acquire()
    await second.attempt()
    await first.release()
    assert first.seconds_left() <= 0
    await second.attempt()
    assert second.seconds_left() > 0


async def test_a_holder_that_slept_too_long_goes_on_only_where_nobody_took_over() -> None:
    server = Server()
    (first, _), (second, _) = candidate(server, "a"), candidate(server, "b")
    await first.acquire()
    server.now += 100
    assert first.seconds_left() <= 0
    await first.attempt()
    assert first.seconds_left() > 0
    await second.attempt()
    server.now += 100
    await second.attempt()
    assert second.seconds_left() > 0
    with pytest.raises(LeaseLost, match=second.identity):
        await first.keep()


async def test_without_the_server_a_holder_writes_nothing_and_goes_on_when_it_is_back() -> None:
    server = Server()
    leader, line = candidate(server, "a")
    await leader.acquire()
    may_write: list[bool] = []

    async def sleep(seconds: float) -> None:
        server.now += seconds
        may_write.append(leader.seconds_left() > 0)
        line.refuse = len(may_write) < 40
        if len(may_write) == 60:
            raise EndOfTestError

    leader._sleep = sleep  # noqa: SLF001 the end of an endless loop
    with pytest.raises(EndOfTestError):
        await leader.keep()
    assert may_write[0]
    assert may_write.index(False) < LEASE_SECONDS
    assert not any(may_write[20:40])
    assert all(may_write[42:])


async def test_renewing_is_cheap() -> None:
    server = Server()
    leader, _ = candidate(server, "a")
    await leader.acquire()
    server.writes, began = 0, server.now

    async def sleep(seconds: float) -> None:
        server.now += seconds
        if server.now - began > 60:
            raise EndOfTestError

    leader._sleep = sleep  # noqa: SLF001 the end of an endless loop
    with pytest.raises(EndOfTestError):
        await leader.keep()
    assert server.writes <= 12


async def test_a_process_that_starts_anew_in_the_same_pod_is_another_candidate() -> None:
    server = Server()
    (first, _), (reborn, _) = candidate(server, "pod-0"), candidate(server, "pod-0")
    await first.acquire()
    await reborn.attempt()
    assert reborn.seconds_left() <= 0


async def test_who_holds_the_lease_tells_how_often_it_has_changed_hands() -> None:
    server = Server()
    (first, _), (second, _) = candidate(server, "a"), candidate(server, "b")
    assert first.transitions() is None
    await first.acquire()
    assert (first.transitions(), second.transitions()) == (0, None)
    await first.release()
    await second.acquire()
    assert (first.transitions(), second.transitions()) == (None, 1)
    server.now += LEASE_SECONDS
    assert second.transitions() is None  # it may not write any more
