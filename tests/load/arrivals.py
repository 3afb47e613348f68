"""When requests arrive and how long they are: made from a rate over time, or from a recorded trace made smaller."""

from __future__ import annotations

import csv
import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Rate = Callable[[float], float]
"""Requests per second at so many seconds after the beginning; always above 0."""

RECORDED = Path(__file__).parent / "mooncake-conversation.csv"
"""The scaled-down trace that the repository holds; its first lines tell where it is from."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request to be sent."""

    at: float
    """Seconds after the beginning."""
    prompt_tokens: int
    output_tokens: int


def steady(requests_per_second: float) -> Rate:
    """A rate that stays."""
    return lambda _: requests_per_second


def ramp(*points: tuple[float, float]) -> Rate:
    """A rate in straight lines from one point (seconds, requests per second) to the next; it stays at the last.

    Raises:
        ValueError: there is no point, or they are not in the order of time.
    """
    if not points or any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(points)):
        raise ValueError(f"{points} are no points of a ramp: there must be one, and each later than the one before")

    def rate(at: float) -> float:
        for (began, low), (ends, high) in itertools.pairwise(points):
            if at < ends:
                share = max(0.0, (at - began) / (ends - began))
                return low + share * (high - low)
        return points[-1][1]

    return rate


def paced(rate: Rate, *, prompt_tokens: int, output_tokens: int) -> Iterator[Arrival]:
    """Give arrivals without end, evenly spaced at the rate of each moment.

    The rate is asked anew for each arrival and no sooner than it is wanted, so that it may follow what happens.

    Raises:
        ValueError: the rate is not above 0; the next arrival would never come.
    """
    at = 0.0
    while True:
        yield Arrival(at, prompt_tokens, output_tokens)
        if not (now := rate(at)) > 0:
            raise ValueError(f"the rate {at:g} s after the beginning is {now}: it must be above 0")
        at += 1 / now


@dataclass(frozen=True, slots=True)
class Scale:
    """How a recorded trace is made small enough for a machine of two processors and a test of minutes."""

    seconds: float
    """Of the recording that are used, from its beginning."""
    one_in: int
    """Every so-manieth request is kept."""
    time_divisor: float
    """So much faster is it replayed. What is a time in a policy has to be divided by the same."""
    prompt_divisor: float
    output_divisor: float
    max_prompt_tokens: int
    max_output_tokens: int


SCALE = Scale(
    # Half an hour in six minutes.
    seconds=1800,
    one_in=2,
    time_divisor=5,
    # The fake engine takes no time over a prompt.
    prompt_divisor=20,
    output_divisor=4,
    max_prompt_tokens=512,
    max_output_tokens=400,
)
"""Of the trace that the repository holds."""


def scale_down(requests: Iterable[Arrival], scale: Scale) -> list[Arrival]:
    """Thin a trace, compress its time, and shorten its requests: lengths are divided, rounded up, and capped.

    The requests left out are not chosen by chance: the result is the same each time, and bursts stay bursts.

    Args:
        requests: the trace, in the order of time.
        scale: how small.
    """
    used = itertools.takewhile(lambda one: one.at < scale.seconds, requests)
    return [
        Arrival(
            round(one.at / scale.time_divisor, 3),
            _shortened(one.prompt_tokens, scale.prompt_divisor, scale.max_prompt_tokens),
            _shortened(one.output_tokens, scale.output_divisor, scale.max_output_tokens),
        )
        for one in itertools.islice(used, 0, None, scale.one_in)
    ]


def _shortened(tokens: int, divisor: float, most: int) -> int:
    return max(1, min(math.ceil(tokens / divisor), most))


def read_mooncake(lines: Iterable[str]) -> Iterator[Arrival]:
    """Read a trace as Mooncake's authors publish it: JSON lines with `timestamp` in ms and lengths in tokens."""
    for line in lines:
        one = json.loads(line)
        yield Arrival(one["timestamp"] / 1000, one["input_length"], one["output_length"])


def write(arrivals: Iterable[Arrival], *, origin: Iterable[str]) -> str:
    """Write arrivals as CSV, below comment lines that tell their origin."""
    header = [*(f"# {line}".rstrip() for line in origin), "seconds,prompt_tokens,output_tokens"]
    return "\n".join([*header, *(f"{one.at:g},{one.prompt_tokens},{one.output_tokens}" for one in arrivals), ""])


def origin(scale: Scale) -> list[str]:
    """Tell where the trace that the repository holds is from, and what was done to it, in lines."""
    return textwrap.wrap(
        'Requests to a chat service, recorded by the authors of Mooncake (Qin et al., "Mooncake: Trading More Storage '
        'for Less Computation", FAST 2025) and published by them under the Apache License 2.0 as '
        "FAST25-release/traces/conversation_trace.jsonl of kvcache-ai/Mooncake: no text, only times and lengths. "
        f"Made smaller for Sundog's replay: the first {scale.seconds:g} s, one request in {scale.one_in}, times "
        f"divided by {scale.time_divisor:g}, prompts by {scale.prompt_divisor:g} (at most {scale.max_prompt_tokens} "
        f"tokens), outputs by {scale.output_divisor:g} (at most {scale.max_output_tokens}), rounded up. "
        "Made anew by: python -m tests.load extract conversation_trace.jsonl",
        width=110,
    )


def read(path: Path = RECORDED) -> list[Arrival]:
    """Read what `write` wrote.

    Raises:
        ValueError: the file holds something else; the message names the line.
    """
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found: list[Arrival] = []
    for row in csv.DictReader(lines):
        try:
            found.append(Arrival(float(row["seconds"]), int(row["prompt_tokens"]), int(row["output_tokens"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no arrivals: {','.join(map(str, row.values()))!r} is not "
                "seconds,prompt_tokens,output_tokens"
            ) from error
    if any(later.at < earlier.at for earlier, later in itertools.pairwise(found)):
        raise ValueError(f"{path} holds arrivals that are not in the order of time: sort it by its first column")
    return found
