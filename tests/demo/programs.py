"""Building the cluster's programs, with a line of output for each step forward, from which the demo draws its bar."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster import ClusterError, build
from tests.cluster.builds import NODE

PROGRAMS = (*NODE, "helm")


class Lines:
    """Progress as lines: ``Building …: 120/1900 (k8s.io/…)``."""

    def __init__(self) -> None:
        self._total = 0
        self._done = 0

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    @contextmanager
    def task(self, text: str) -> Iterator["Lines"]:
        """Print what begins."""
        self.say(text)
        yield self

    def update(self, *, done: int | None = None, total: int | None = None, detail: str | None = None) -> None:
        """Print how far it is."""
        self._total = self._total if total is None else total
        self._done = self._done if done is None else done
        self.say(f"{self._done}/{self._total} {detail or ''}" if self._total else detail or "")


def main() -> int:
    """Build what is not built yet.

    Returns:
        0, or 1 when something failed; the last line says why.
    """
    try:
        build(Lines(), programs=PROGRAMS)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
