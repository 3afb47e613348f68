"""What the replica and its engine's processes print: kept, remembered, and told to the container's log.

When an engine does not start, its cause stands only in what its processes printed; the exception says that
initialization failed. So the standard output and error of this process, which its children inherit, go through a pipe,
for as long as the process lives. What comes out is written to where it went before (Ray keeps a file per worker inside
the pod), and to the container's log.
"""

import itertools
import os
import re
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from sundog_serving.contract import CONTAINER_LOG_VARIABLE

_REMEMBERED_LINES: Final = 2000
_CHUNK: Final = 65536
_FLUSH_SECONDS: Final = 5.0
_MARKER: Final = re.compile(rb"\0\d+\n")
_STDOUT: Final = 1
_STDERR: Final = 2


class Output:
    """The output of this process and of those that it starts after ``Output.tap``."""

    _tapped: Self | None = None

    def __init__(self, *, reader: int, writer: int, sinks: list[Callable[[bytes], None]]) -> None:
        self._reader = reader
        self._writer = writer
        self._sinks = sinks
        self._lines: deque[str] = deque(maxlen=_REMEMBERED_LINES)
        self._unended = ""
        self._markers = itertools.count()
        self._seen: dict[bytes, threading.Event] = {}

    @classmethod
    def tap(cls) -> Self:
        """Put the pipe in place; a second call returns the first one's."""
        if cls._tapped is not None:
            return cls._tapped
        reader, writer = os.pipe()
        sinks: list[Callable[[bytes], None]] = [_into(os.dup(_STDOUT))]
        if path := os.environ.get(CONTAINER_LOG_VARIABLE):
            sinks.append(_into_container_log(Path(path)))
        os.dup2(writer, _STDOUT)
        os.dup2(writer, _STDERR)
        output = cls(reader=reader, writer=writer, sinks=sinks)
        threading.Thread(target=output._pump, name="output", daemon=True).start()
        cls._tapped = output
        return output

    def lines(self) -> list[str]:
        """Return what has been printed lately, up to this call.

        A marker goes through the same pipe, so that what a process printed before it died is surely there.
        """
        marker = f"\0{next(self._markers)}\n".encode()
        seen = self._seen[marker] = threading.Event()
        os.write(self._writer, marker)
        seen.wait(_FLUSH_SECONDS)
        del self._seen[marker]
        return [*self._lines, self._unended] if self._unended else list(self._lines)

    def _pump(self) -> None:
        pending = b""
        while chunk := os.read(self._reader, _CHUNK):
            met: list[threading.Event] = []

            def meet(marker: re.Match[bytes], met: list[threading.Event] = met) -> bytes:
                if (seen := self._seen.get(marker[0])) is None:
                    return marker[0]
                met.append(seen)
                return b""

            *whole, pending = _MARKER.sub(meet, pending + chunk).split(b"\n")
            self._lines.extend(line.decode(errors="replace") for line in whole)
            self._unended = pending.decode(errors="replace")
            if shown := b"".join(line + b"\n" for line in whole):
                for sink in self._sinks:
                    sink(shown)
            for seen in met:
                seen.set()


def _into(descriptor: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    return write


def _into_container_log(path: Path) -> Callable[[bytes], None]:
    try:
        # Not blocking: a log that nobody drains must not hold up the engine.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return lambda _: None

    def write(data: bytes) -> None:
        try:
            os.write(descriptor, data)
        except OSError:
            return  # full, or gone: Ray's own file still has it

    return write
