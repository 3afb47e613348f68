"""What came of requests: each one's times and fault, and the figures of many. Values in, values out; no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.bench.figures import percentile


class Fault(StrEnum):
    """Why a request has no whole answer."""

    REFUSED = "refused"
    """429: too many wait."""
    ERROR = "error"
    """Another status than 200 and 429, or an error told inside the stream."""
    FAILED = "failed"
    """No answer began."""
    CUT = "cut"
    """The answer began, and the connection ended before the answer did."""
    GAP = "gap"
    """The stream ended properly, and tokens are missing."""
    UNENDED = "unended"
    """All tokens came and ``[DONE]`` did not."""
    ABANDONED = "abandoned"
    """The client left before the end, because the load was over."""


LOST = frozenset({Fault.CUT, Fault.GAP, Fault.UNENDED})
"""A stream that began and was not told to its end."""


@dataclass(slots=True)
class Record:
    """One request. Times are seconds since the load began; None: it never came to that."""

    scheduled: float
    """When it was to be sent. Latency counts from here: a client that is late must not hide a server that is."""
    prompt_tokens: int
    output_tokens: int
    """How many were asked for."""
    sent: float | None = None
    first_byte: float | None = None
    """Status and headers of the answer."""
    first_token: float | None = None
    last_token: float | None = None
    ended: float | None = None
    """When its fate was known, good or bad."""
    tokens: int = 0
    """How many came."""
    longest_pause: float = 0.0
    """Between two tokens, seconds."""
    status: int = 0
    retry_after: float | None = None
    """Seconds, as the Retry-After header has it."""
    fault: Fault | None = None
    detail: str = ""
    """Of the fault: what the server or the connection said."""

    @property
    def whole(self) -> bool:
        """Whether it was answered to the end."""
        return self.ended is not None and self.fault is None

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds."""
        return None if self.first_token is None else self.first_token - self.scheduled

    @property
    def inter_token(self) -> float | None:
        """Mean time between two tokens, seconds; None with fewer than two."""
        if self.first_token is None or self.last_token is None or self.tokens < 2:
            return None
        return (self.last_token - self.first_token) / (self.tokens - 1)


def missing(text: str, tokens: int) -> str:
    """Tell what a numbered stream of the fake engine (``tok0 tok1 …``) lacks; empty when it is gap-free and complete.

    Args:
        text: all of the stream's text.
        tokens: how many were asked for.
    """
    found = text.split()
    for number in range(max(len(found), tokens)):
        if number >= len(found):
            return f"{len(found)} of {tokens} tokens"
        if number >= tokens:
            return f"{len(found)} tokens, {tokens} were asked for"
        if found[number] != f"tok{number}":
            return f"{found[number][:40]} where tok{number} was due"
    return ""


@dataclass(frozen=True, slots=True)
class SLO:
    """What a person who waits for an answer is promised."""

    first_token_seconds: float
    inter_token_seconds: float
    """On average over a request."""

    def __str__(self) -> str:
        return (
            f"first token within {self.first_token_seconds:g} s, then a token every "
            f"{self.inter_token_seconds * 1000:g} ms on average"
        )

    def met(self, record: Record) -> bool:
        """Whether a request was answered to its end and in time."""
        first, between = record.time_to_first_token, record.inter_token
        return (
            record.whole
            and first is not None
            and first <= self.first_token_seconds
            and (between is None or between <= self.inter_token_seconds)
        )

    def attainment(self, records: Sequence[Record]) -> float:
        """Share of requests that it was kept for, from 0 to 1; whatever was refused or lost counts against it.

        Raises:
            ValueError: there is no request.
        """
        if not records:
            raise ValueError("no attainment of no requests")
        return sum(map(self.met, records)) / len(records)


def duration(seconds: float) -> str:
    """Write seconds as people read them: ``80 ms``, ``1.5 s``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of seconds."""

    p50: float
    p90: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Iterable[float | None]) -> Percentiles | None:
        """Describe those that there are; None when there is none."""
        known = [one for one in seconds if one is not None]
        if not known:
            return None
        p50, p90, p99 = (percentile(known, percent) for percent in (50, 90, 99))
        return cls(p50, p90, p99, max(known))

    def __str__(self) -> str:
        return " / ".join(
            f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
            for seconds in (self.p50, self.p90, self.p99)
        )


@dataclass(slots=True)
class Outcome:
    """All requests of a load, in the order in which they were scheduled; the last ones may be under way."""

    records: list[Record] = field(default_factory=list)

    @property
    def whole(self) -> int:
        """Requests answered to the end."""
        return sum(record.whole for record in self.records)

    @property
    def under_way(self) -> int:
        """Requests whose fate is not known yet."""
        return sum(record.ended is None for record in self.records)

    @property
    def kinds(self) -> Counter[Fault]:
        """What went wrong, by kind."""
        return Counter(record.fault for record in self.records if record.fault)

    @property
    def faults(self) -> Counter[str]:
        """What went wrong, in words."""
        return Counter(f"{record.fault}: {record.detail}" for record in self.records if record.fault)

    @property
    def lost(self) -> int:
        """Streams that began and were not told to their end."""
        return sum(record.fault in LOST for record in self.records)

    @property
    def time_to_first_token(self) -> Percentiles | None:
        """Of all requests that got one."""
        return Percentiles.of(record.time_to_first_token for record in self.records)

    @property
    def inter_token(self) -> Percentiles | None:
        """Of the requests' means."""
        return Percentiles.of(record.inter_token for record in self.records)

    @property
    def lateness(self) -> Percentiles | None:
        """How late this side sent: what is large here says that the client was the bottleneck."""
        return Percentiles.of(
            None if record.sent is None else record.sent - record.scheduled for record in self.records
        )

    def goodput(self, slo: SLO, *, since: float, until: float) -> float:
        """Requests per second that met an SLO, of those scheduled in [since, until).

        Raises:
            ValueError: that is no time at all.
        """
        if until <= since:
            raise ValueError(f"no goodput from {since:g} s until {until:g} s")
        return sum(slo.met(record) for record in self.records if since <= record.scheduled < until) / (until - since)

    def __str__(self) -> str:
        return f"{self.whole} whole, {sum(self.kinds.values())} failed or cut {dict(self.faults) or ''}".rstrip()
