"""Every state that a rollout can come to, walked: whatever comes in whatever order, its promises hold.

The world here is the least that shows what the planner does: counts of replicas and pods per revision, and all that may
happen to them, one at a time. The walk ends in states in which nothing can happen any more, never comes back to a
state that it left (so there is always progress, and always an end), and looks at each step of the operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from sundog_operator.core.rollout import Limits, Members, rollout

SIZES = range(1, 5)
BOUNDS = [(surge, unavailable) for surge in range(3) for unavailable in range(3) if surge or unavailable]


class Revision(NamedTuple):
    """One revision: its Deployment, Serve's target, and its pods by what is on them."""

    asked: int = 0
    target: int = 0
    serving: int = 0
    loading: int = 0
    draining: int = 0
    """Told to go, with requests still."""
    empty: int = 0
    ending: int = 0
    breaks: bool = False
    """Never becomes ready."""
    gone: bool = False
    """Taken away as a whole, but for what still ends."""

    @property
    def pods(self) -> int:
        return self.serving + self.loading + self.draining + self.empty

    def settled(self) -> Revision:
        """Let Serve do what it was told, which takes it a moment: it stops what is loading first."""
        serving, loading, draining, empty = self.serving, self.loading, self.draining, self.empty
        while serving + loading > self.target and loading:
            loading, empty = loading - 1, empty + 1
        while serving > self.target:
            serving, draining = serving - 1, draining + 1
        while serving + loading < self.target and empty:
            loading, empty = loading + 1, empty - 1
        return self._replace(serving=serving, loading=loading, draining=draining, empty=empty)


class State(NamedTuple):
    """All revisions, and what may still be asked for."""

    desired: int
    changes: int
    """How often the count may still change."""
    specs: int
    """How often the spec may still change."""
    in_charge: int
    withdrawn: bool
    revisions: tuple[Revision, ...]
    """The last one is asked for."""

    @property
    def goal(self) -> int:
        return self.in_charge if self.withdrawn else len(self.revisions) - 1

    def put(self, index: int, revision: Revision) -> State:
        rest = self.revisions
        return self._replace(revisions=(*rest[:index], revision.settled(), *rest[index + 1 :]))


class Case(NamedTuple):
    surge: int
    unavailable: int


def happens(state: State) -> Iterator[State]:
    """All that the world may do next."""
    for index, each in enumerate(state.revisions):
        for after in happens_to(each):
            yield state.put(index, after)
    if state.changes:
        for desired in {0, state.desired - 1, state.desired + 1} - {-1}:
            yield state._replace(desired=desired, changes=state.changes - 1)
    last = state.revisions[-1]
    if state.specs:
        for breaks in (False, True):
            revisions = (*state.revisions, Revision(breaks=breaks))
            yield state._replace(specs=state.specs - 1, withdrawn=False, revisions=revisions)
    if last.breaks and not state.withdrawn and state.in_charge != len(state.revisions) - 1:
        yield state._replace(withdrawn=True)


def happens_to(each: Revision) -> Iterator[Revision]:
    """All that may happen to one revision."""
    if each.pods < each.asked:
        yield each._replace(empty=each.empty + 1)
    if each.loading and not each.breaks:
        yield each._replace(loading=each.loading - 1, serving=each.serving + 1)
    if each.draining:
        yield each._replace(draining=each.draining - 1, empty=each.empty + 1)
    if each.pods > each.asked:
        # Marked pods go first, then such as are not ready; what serves or drains never has to.
        assert each.empty or each.loading, f"a replica with requests would go: {each}"
        of = "empty" if each.empty else "loading"
        yield each._replace(**{of: getattr(each, of) - 1, "ending": each.ending + 1})
    if each.ending:
        yield each._replace(ending=each.ending - 1)


def operate(state: State, case: Case) -> State:
    """One pass of the operator."""
    goal = state.goal
    there = [i for i, each in enumerate(state.revisions) if i != goal and not (each.gone and not each.ending)]
    leaving = sorted(there, key=lambda i: (i == state.in_charge, state.revisions[i].serving, i))
    members = {i: of(state, i) for i in (goal, *leaving)}
    limits = Limits(desired=state.desired, surge=case.surge, unavailable=case.unavailable)
    steps = rollout(members[goal], [members[i] for i in leaving], limits)
    after = state
    for i in (goal, *leaving):
        step, each = steps[str(i)], state.revisions[i]
        if i not in {goal, state.in_charge} and not step.replicas and not each.serving and not each.draining:
            # Taken away as a whole: none of it has a request.
            after = after.put(i, Revision(ending=each.ending + each.pods, breaks=each.breaks, gone=True))
        else:
            assert step.victims <= each.empty
            after = after.put(i, each._replace(asked=step.pods, target=step.replicas, gone=False))
    now = after.revisions[goal]
    whole = now.serving >= state.desired if state.desired else not now.target
    return after._replace(in_charge=goal) if whole and before_whole(state, goal) else after


def before_whole(state: State, goal: int) -> bool:
    each = state.revisions[goal]
    return each.serving >= state.desired if state.desired else not each.target


def of(state: State, index: int) -> Members:
    each = state.revisions[index]
    return Members(
        revision=str(index),
        asked=each.asked,
        pods=each.pods,
        ending=each.ending,
        target=each.target,
        serving=each.serving,
        loading=each.target - each.serving,
        empty=None if each.target > each.serving + each.loading else each.empty,
        was_up=bool(each.serving or each.draining),
        head_ready=True,
        in_charge=index == state.in_charge,
        withdrawn=state.withdrawn and index == len(state.revisions) - 1,
    )


def keeps_its_promises(before: State, after: State, case: Case) -> None:
    """What one pass of the operator must not do."""
    serving = [sum(each.serving for each in state.revisions) for state in (before, after)]
    rolls = sum(not each.gone for each in before.revisions) > 1
    least = max(before.desired - (case.unavailable if rolls else 0), 0)
    assert serving[1] >= min(serving[0], least), f"too few serve: {before} → {after}"
    if not rolls:
        return  # a plain change of the count, which takes what it needs
    held = [sum(max(each.asked, each.pods) + each.ending for each in state.revisions) for state in (before, after)]
    assert held[1] <= max(held[0], before.desired + case.surge), f"too many pods: {before} → {after}"


def is_done(state: State) -> bool:
    goal = state.revisions[state.goal]
    rest = [each for i, each in enumerate(state.revisions) if i != state.goal]
    return (
        goal.asked == goal.pods == goal.serving == goal.target == state.desired
        and not goal.ending
        and all(each.gone and not each.ending for each in rest)
        and state.in_charge == state.goal
    )


def walk(start: State, case: Case) -> int:
    """Depth first, each state once; gives their number."""
    done: set[State] = set()
    under_way: set[State] = set()
    stack: list[tuple[State, Iterator[State]]] = []

    def enter(state: State) -> None:
        under_way.add(state)
        stack.append((state, successors(state, case)))

    enter(start)
    while stack:
        state, rest = stack[-1]
        following = next(rest, None)
        if following is None:
            under_way.discard(state)
            done.add(state)
            stack.pop()
        elif following in under_way:
            raise AssertionError(f"it comes back to {following} after {state}")
        elif following not in done:
            enter(following)
    return len(done)


def successors(state: State, case: Case) -> Iterator[State]:
    after = operate(state, case)
    if after != state:
        keeps_its_promises(state, after, case)
        yield after
    quiet = after == state
    for following in happens(state):
        quiet = False
        yield following
    assert not quiet or is_done(state), f"nothing happens any more: {state}"


def begin(size: int, *, breaks: bool, changes: int, specs: int) -> State:
    old = Revision(asked=size, target=size, serving=size)
    return State(size, changes, specs, in_charge=0, withdrawn=False, revisions=(old, Revision(breaks=breaks)))


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_every_rollout_keeps_its_bounds_and_comes_to_an_end(bounds: tuple[int, int]) -> None:
    case = Case(*bounds)
    states = 0
    for size in SIZES:
        for breaks in (False, True):
            states += walk(begin(size, breaks=breaks, changes=0, specs=0), case)
    print(f"{case}: {states} states")
    assert states > 100


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_a_count_that_changes_midway_keeps_the_bounds(bounds: tuple[int, int]) -> None:
    case = Case(*bounds)
    states = sum(
        walk(begin(size, breaks=breaks, changes=1, specs=0), case) for size in SIZES for breaks in (False, True)
    )
    print(f"{case}: {states} states")


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_a_spec_that_changes_again_midway_keeps_the_bounds(bounds: tuple[int, int]) -> None:
    case = Case(*bounds)
    states = sum(
        walk(begin(size, breaks=breaks, changes=0, specs=1), case) for size in SIZES for breaks in (False, True)
    )
    print(f"{case}: {states} states")
