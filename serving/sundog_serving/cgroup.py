"""What the kernel tells a container about its memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

# cgroup v2, then v1. Each has a line "oom_kill <count>".
EVENTS: Final = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


def oom_kills(files: Sequence[Path] = EVENTS) -> int:
    """Return how many processes of this container the kernel has killed for want of memory, as far as it tells."""
    for file in files:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
        if counts:
            return int(counts[0])
    return 0
