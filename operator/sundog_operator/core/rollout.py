"""Which revision shall have how many replicas now, and how many pods: one surge unit at a time.

A pure planner, and the only place that decides it; `tests/unit/core/test_rollout_model.py` walks every state that it
can come to. What holds in each of them:

- a replica that serves goes only while enough others serve: `desired - unavailable` in a rollout, else `desired`;
- no pod is asked for beyond `desired + surge`, where one that drains or ends still counts: it holds a GPU;
- a pod is given up only when Serve has no replica on it.

Until one new replica serves, the old revision keeps its strength as far as the surge allows, and follows the desired
count: a change that turns out to be broken costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """What one revision has."""

    revision: str
    asked: int = 0
    """Pods that its Deployment asks for."""
    pods: int = 0
    """Pods that were not told to end."""
    ending: int = 0
    """Pods that were, and are still there."""
    target: int | None = None
    """Replicas that Serve was told to have; None: it was told nothing yet, or does not say."""
    serving: int = 0
    """Replicas that answer, and have done so for `minReadySeconds`, and will stay if nothing is changed."""
    loading: int = 0
    """Replicas that have never answered: of those to go, Serve takes them first."""
    empty: int | None = None
    """Pods without a replica; None: that can't be told now."""
    was_up: bool = False
    """Whether a replica may have requests."""
    head_ready: bool = False
    in_charge: bool = False
    """Whether its head holds requests while no replica is up: kept until another revision is whole."""
    withdrawn: bool = False
    """Whether it was taken back: of its replicas none is worth waiting for."""

    @property
    def size(self) -> int:
        """Replicas that it is to have, as decided so far."""
        return self.asked if self.target is None else min(self.asked, self.target)

    @property
    def held(self) -> int:
        """Pods that hold a GPU, or are about to."""
        return max(self.asked, self.pods) + self.ending

    @property
    def idle(self) -> int:
        """Replicas that may go without a loss."""
        if not self.was_up:
            return self.size
        return self.size - min(self.serving, self.size) if self.withdrawn else min(self.loading, self.size)

    @property
    def movable(self) -> bool:
        """Whether it can be told to have fewer."""
        return self.target is not None or not self.was_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds for all revisions together."""

    desired: int
    surge: int
    unavailable: int
    paused: bool = False

    @property
    def pods(self) -> int:
        """Pods that there may be in a rollout; none beyond zero, for nothing is to serve."""
        return self.desired + self.surge if self.desired else 0


@dataclass(frozen=True, slots=True)
class Step:
    """What one revision is to have now."""

    replicas: int
    """Serve's target."""
    pods: int
    """Replicas of its Deployment."""
    victims: int
    """Pods without a replica that are to go first; those that were given up before and are still there included."""
    why: str
    """In words, why it has not what it should have in the end; empty where it has."""


def rollout(goal: Members, leaving: Sequence[Members], limits: Limits) -> dict[str, Step]:
    """Give the next step of each revision, by its hash.

    Args:
        goal: the revision that is to be at full strength.
        leaving: all others, those that go first in front and the one to fall back on last.
        limits: what holds for all together.
    """
    counts = _Counts(goal, tuple(leaving), limits)
    counts.decide()
    return {each.revision: _step(each, counts) for each in (goal, *leaving)}


class _Counts:
    """The counts of one step, as they are decided one after the other."""

    def __init__(self, goal: Members, leaving: tuple[Members, ...], limits: Limits) -> None:
        self.goal, self.leaving, self.limits = goal, leaving, limits
        self.count = {each.revision: each.size for each in (goal, *leaving)}
        self.why = dict.fromkeys(self.count, "")
        everyone = (goal, *leaving)
        least = limits.desired - limits.unavailable if leaving else limits.desired
        self._spare = max(sum(each.serving for each in everyone) - max(least, 0), 0)
        # A plain change of the count takes what it needs; only what is for the rollout's sake is bounded.
        self._room = max(limits.pods - sum(each.held for each in everyone), 0) if leaving else limits.desired
        self._short = f"{max(least, 0)} replicas must serve"
        self._full = f"there may be {limits.pods} pods, those that drain or end included"

    def decide(self) -> None:
        goal, desired = self.goal, self.limits.desired
        if not self.leaving:
            self._grow(goal, desired)
            self._lower((goal,), goal.size - desired)
        elif self.limits.paused:
            self._keep_the_sum()
        elif self._is_proven:
            self._lower(self.leaving, self._leaving_now)
            self._grow(goal, desired)
            self._lower((goal,), goal.size - desired)
        else:
            self._try_the_goal()

    @property
    def _is_proven(self) -> bool:
        """Whether the goal serves, or nothing else does."""
        return bool(self.goal.in_charge or self.goal.serving or not any(each.serving for each in self.leaving))

    @property
    def _leaving_now(self) -> int:
        return sum(each.size for each in self.leaving)

    def _try_the_goal(self) -> None:
        """Start the first replicas of the goal, beside the others or, without a surge, in their place."""
        goal, desired, surge = self.goal, self.limits.desired, self.limits.surge
        first = min(desired, surge or self.limits.unavailable)
        kept = desired if surge else desired - first
        if not surge and not goal.head_ready and not goal.asked:
            kept = desired  # no replica is given up for a head that does not come
        if self._leaving_now > kept:
            self._lower(self.leaving, self._leaving_now - kept)
        else:
            keeper = self.leaving[-1]
            self._grow(keeper, keeper.size + kept - self._leaving_now)
        self._grow(goal, first)
        self._lower((goal,), goal.size - first)

    def _keep_the_sum(self) -> None:
        """Follow the desired count only: no replica goes for one of another revision."""
        everyone = (*self.leaving, self.goal)
        there_are = sum(each.size for each in everyone)
        if there_are < self.limits.desired:
            one = self.goal if self._is_proven else self.leaving[-1]
            self._grow(one, one.size + self.limits.desired - there_are)
        self._lower(everyone, there_are - self.limits.pods)

    def _grow(self, one: Members, wanted: int) -> None:
        """Give it more, as far as there is room; pods that it asks for already cost none."""
        if wanted <= one.size:
            return
        if one.pods > one.asked:
            # Serve could place a replica on a pod that is about to be told to end.
            self.why[one.revision] = "pods that were given up go first"
            return
        new = min(max(wanted - max(one.asked, one.size), 0), self._room)
        count = min(wanted, max(one.asked, one.size) + new)
        self._room -= new
        self.count[one.revision] = count
        if count < wanted:
            self.why[one.revision] = self._full

    def _lower(self, members: Sequence[Members], surplus: int) -> None:
        """Take some away, as far as enough go on serving."""
        for each in members:
            most = min(surplus, each.size)
            if most <= 0:
                continue
            going = min(most, each.idle + self._spare) if each.movable else 0
            self._spare -= max(going - each.idle, 0)
            surplus -= going
            self.count[each.revision] = each.size - going
            if going < most:
                self.why[each.revision] = self._short if each.movable else "its head does not answer"


def _step(one: Members, counts: _Counts) -> Step:
    replicas = counts.count[one.revision]
    pods, victims = _pods(one, replicas)
    return Step(replicas, pods, victims, counts.why[one.revision])


def _pods(one: Members, replicas: int) -> tuple[int, int]:
    """How many pods to ask for now, and how many of those there are to go for it."""
    if replicas >= one.asked:
        return replicas, 0
    if one.target is not None and one.target > replicas:
        return one.asked, 0  # Serve is lowered first
    if not one.was_up:
        return replicas, 0
    if one.empty is None or one.target is None or one.target < replicas:
        return one.asked, 0  # only its head can tell which pods stay empty
    missing = max(one.asked - one.pods, 0)  # pods that were never made, or are ending already
    going = max(one.pods - one.asked, 0)  # of those without a replica, as many were given up before
    victims = min(max(one.empty - going, 0), max(one.asked - replicas - missing, 0))
    return max(one.asked - missing - victims, replicas), going + victims if victims else 0
