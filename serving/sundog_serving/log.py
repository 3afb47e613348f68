"""Where log lines go: the replica's standard output, which `output` carries further."""

import logging
import traceback
from types import TracebackType


class _Formatter(logging.Formatter):
    def formatException(  # noqa: N802  logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """Write a traceback without ``print``: Serve's throughput mode replaces it by one that prints tuples."""
        return "".join(traceback.format_exception(ei[1])).rstrip()


def configure(*names: str) -> None:
    """Give loggers a handler of their own, once.

    Not through ``logging.config``: it closes the handlers of everybody else, Serve's own among them. A Serve controller
    that finds a replica without its log handler stops that replica (Ray 2.60).
    """
    for name in names:
        logger = logging.getLogger(name)
        if logger.handlers:
            continue
        # The descriptor itself: in its throughput mode Serve turns `sys.stdout` into a file of its own.
        stream = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        handler = logging.StreamHandler(stream)
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
