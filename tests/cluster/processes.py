"""Processes that outlive the command that started them.

Each is the leader of a process group of its own and is known by pid *and* start
time, because pids come round again: nothing is ever signalled by name.
"""

import json
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import waiting

# Lines of klog, etcd and containerd that a person would call the reason.
TELLING = re.compile(
    r'^[FE]\d{4}|"level":"(?:fatal|error|panic)"|level=(?:fatal|error)|^(?:Error|panic|error):|^\[FATAL\]'
)
KLOG_HEAD = re.compile(r"^[FEWI]\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] ")


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``/proc/<pid>/stat`` says of a process."""

    pid: int
    state: str
    parent: int
    group: int
    threads: int
    started: int

    @property
    def living(self) -> bool:
        """Whether it may still hold files and ports: a killed leader is a zombie before its last thread has gone."""
        return self.state != "Z" or self.threads > 1


def stat(pid: int) -> Stat | None:
    """Read a process, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in parentheses and may itself contain some.
    fields = text[text.rindex(")") + 2 :].split()
    state, parent, group, threads, started = (fields[index] for index in (0, 1, 2, 17, 19))
    return Stat(pid, state, int(parent), int(group), int(threads), int(started))


def _living() -> Iterator[Stat]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := stat(int(entry.name))) and found.living:
            yield found


def children(pid: int) -> list[int]:
    """List the living children of a process."""
    return [found.pid for found in _living() if found.parent == pid]


def command_of(pid: int) -> str:
    """Give the command line of a process as far as it may be read."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "unknown command"


def last_telling_line(log: Path) -> str:
    """Find the line of a log that says why its writer died: the last error, else the last line."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-200:] if line.strip()]
    except FileNotFoundError:
        return "it wrote no log"
    chosen = next(
        (line for line in reversed(lines) if TELLING.search(line)), lines[-1] if lines else "its log is empty"
    )
    return KLOG_HEAD.sub("", chosen)[:400]


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process in the background, remembered in ``record``, writing to ``log``."""

    name: str
    record: Path
    log: Path

    @property
    def pid(self) -> int | None:
        """The leader's pid while the process runs."""
        return self._group() if self.running else None

    @property
    def running(self) -> bool:
        """Whether any process of the group works, or is paused."""
        return any(member.state != "Z" for member in self._members())

    @property
    def gone(self) -> bool:
        """Whether all files and ports of the group are free again: some time after it runs no more."""
        return not self._members()

    @property
    def paused(self) -> bool:
        """Whether the whole group is stopped by a signal."""
        members = [member for member in self._members() if member.state != "Z"]
        return bool(members) and all(member.state == "T" for member in members)

    def start(self, command: Sequence[str], *, environment: Mapping[str, str]) -> None:
        """Start the process in a session of its own, with its output at the end of the log.

        ``posix_spawn`` and not ``Popen``: a Popen object complains when it is
        forgotten while its process lives on, which is the purpose here.
        """
        waiting.until(lambda: self.gone, seconds=10)  # an earlier one may be about to end
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.record.parent.mkdir(parents=True, exist_ok=True)
        write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            command[0],
            list(command),
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), write, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        found = stat(pid)
        self.record.write_text(json.dumps({"pid": pid, "started": found.started if found else 0}))

    def stop(self, *, grace: float = 10.0) -> None:
        """End the group: politely, and after ``grace`` seconds by force. Safe when nothing runs."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        if not waiting.until(lambda: self.gone, seconds=grace):
            self.kill()
        self._forget()

    def kill(self) -> None:
        """End the group by force."""
        self._signal(signal.SIGKILL)
        waiting.until(lambda: self.gone, seconds=10)
        self._forget()

    def pause(self) -> None:
        """Stop the group from being scheduled: it keeps its sockets and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused group go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.running and (group := self._group()):
            with suppress(ProcessLookupError):
                os.killpg(group, number)

    def _group(self) -> int | None:
        try:
            return int(json.loads(self.record.read_text())["pid"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _forget(self) -> None:
        self._reap()
        self.record.unlink(missing_ok=True)

    def _reap(self) -> None:
        """Take note of the leader's end if this very process started it; else its parent or process 1 does."""
        if group := self._group():
            with suppress(ChildProcessError):
                os.waitpid(group, os.WNOHANG)

    def _members(self) -> list[Stat]:
        group = self._group()
        if group is None:
            return []
        self._reap()
        leader = stat(group)
        if leader and leader.started != json.loads(self.record.read_text())["started"]:
            return []
        return [found for found in _living() if found.group == group]


def holder_of_port(port: int) -> str:
    """Name the process that listens on a TCP port, as far as this user may know.

    Returns:
        ``process 4711 (etcd --data-dir ...)`` or ``another process``.
    """
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    for found in _living():
        with suppress(OSError):
            for descriptor in Path(f"/proc/{found.pid}/fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in sockets:
                        return f"process {found.pid} ({command_of(found.pid)[:120]})"
    return "another process (whose name only root may see)"
