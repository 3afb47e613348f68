"""Which of the operator's replicas may write: the holder of a Lease, and only while it is sure of it.

The holder counts from *before* its last renewal was sent, and for two thirds of the time that the Lease holds; the
others count from when they *saw* that renewal, and for the whole time. So a holder that cannot renew, or that was
stopped and wakes up, has ceased to write a third of that time before another begins. No clock is compared with another
machine's.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from sundog_operator.core.names import Manifest

RETRY_SECONDS: Final = 2.0
"""How often the others look whether the Lease is free: what a take-over costs after a graceful exit."""
RETRY_RENEWAL_SECONDS: Final = 1.0


class LeaseApi(Protocol):
    """The one Lease, in the API server."""

    @property
    def error(self) -> type[Exception]:
        """What its methods raise, a conflict included."""

    def empty(self) -> Manifest:
        """Give a manifest to create it with."""

    async def read(self) -> Manifest | None:
        """Read it; None: there is none."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Create it; fails where it exists."""

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace it; fails where it has changed since it was read."""


class LeaseLost(Exception):  # noqa: N818 it happens, and it is right then to end
    """This process may no longer write."""


def seconds_since_boot() -> float:
    """Give a clock that also counts while the machine is suspended, as the others' clocks do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Leader:
    """One candidate."""

    def __init__(
        self,
        api: LeaseApi,
        *,
        identity: str,
        lease_seconds: int,
        clock: Callable[[], float] = seconds_since_boot,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is written before `acquire`.

        Args:
            api: where the Lease is.
            identity: the pod's name; a process that starts anew in the same pod is another candidate.
            lease_seconds: how long the Lease holds when it is not renewed.
            clock: seconds that grow.
            sleep: waits for seconds of that clock.
        """
        self._api = api
        self._identity = f"{identity}_{uuid.uuid4().hex[:8]}"
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._sleep = sleep
        self._lease: Manifest | None = None
        self._may_write_until = float("-inf")
        self._other = ""
        self._seen: tuple[object, ...] | None = None
        self._seen_at = 0.0

    @property
    def identity(self) -> str:
        """What stands in the Lease while this process holds it."""
        return self._identity

    def transitions(self) -> int | None:
        """Give how often the Lease has changed hands; None: this process does not hold it."""
        if self._lease is None or self.seconds_left() <= 0:
            return None
        return int(self._lease["spec"].get("leaseTransitions", 0))

    def seconds_left(self) -> float:
        """Give the seconds for which this process may still write; 0 or less: not at all."""
        return self._may_write_until - self._clock()

    async def acquire(self) -> None:
        """Wait until this process holds the Lease."""
        while True:
            await self.attempt()
            if self.seconds_left() > 0:
                return
            await self._sleep(RETRY_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311 no secret

    async def keep(self) -> None:
        """Renew for as long as no other holds the Lease.

        While the API server is away nothing may be written, but nobody else can write either: it goes on when the
        server is back.

        Raises:
            LeaseLost: another holds the Lease.
        """
        pause = self._lease_seconds / 3
        while True:
            await self._sleep(pause)
            renewed = await self.attempt()
            if self._other:
                raise LeaseLost(f"The Lease was lost to {self._other}, which works on; this process starts anew")
            pause = self._lease_seconds / 3 if renewed else RETRY_RENEWAL_SECONDS

    async def attempt(self) -> bool:
        """Try once to take the Lease or to renew it; whether it worked."""
        started = self._clock()
        self._other = ""
        try:
            lease = self._lease or await self._api.read()
            if lease is None:
                saved = await self._api.create(self._claim(self._api.empty()))
            elif self._mine(lease) or self._free(lease, started):
                saved = await self._api.replace(self._claim(lease))
            else:
                self._other = str(lease["spec"]["holderIdentity"])
                self._lease = None
                self._may_write_until = float("-inf")
                return False
        except self._api.error:
            self._lease = None  # it may have changed, even by this very request: read it next time
            return False
        self._lease = saved
        self._may_write_until = started + self._lease_seconds * 2 / 3
        return True

    async def release(self) -> None:
        """Give the Lease back, so that another need not wait; to be called when nothing is being written any more."""
        lease, self._lease = self._lease, None
        self._may_write_until = float("-inf")
        if lease and self._mine(lease):
            spec = {key: value for key, value in lease["spec"].items() if key != "holderIdentity"}
            try:
                await self._api.replace({**lease, "spec": {**spec, "leaseDurationSeconds": 1, "renewTime": _now()}})
            except self._api.error:
                return  # then it expires

    def _mine(self, lease: Manifest) -> bool:
        return bool((lease.get("spec") or {}).get("holderIdentity") == self._identity)

    def _free(self, lease: Manifest, now: float) -> bool:
        spec = lease.get("spec") or {}
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return not spec.get("holderIdentity") or now - self._seen_at > spec.get(
            "leaseDurationSeconds", self._lease_seconds
        )

    def _claim(self, lease: Manifest) -> Manifest:
        spec = lease.get("spec") or {}
        now = _now()
        claimed = {**spec, "leaseDurationSeconds": self._lease_seconds, "renewTime": now}
        if not self._mine(lease):
            claimed |= {
                "holderIdentity": self._identity,
                "acquireTime": now,
                "leaseTransitions": spec.get("leaseTransitions", -1) + 1,
            }
        return {**lease, "spec": claimed}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
