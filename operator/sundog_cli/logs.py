"""What the engines of all replicas write, in one stream.

A replica's output goes into the log of its container (and into files of Ray's in the pod), so the right to read logs is
all that is needed: no command is run in a pod.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from sundog_cli.cluster import Cluster, sentence
from sundog_cli.errors import Trouble
from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from sundog_operator.kube.errors import KubeError

LOOK_AGAIN_SECONDS: Final = 2.0
"""For pods that have come, and containers that have begun anew."""
_CONTAINERS: Final = {names.WORKER: "engine", names.HEAD: "head", names.ROUTER: "haproxy"}

Write = Callable[[str, str], None]
"""Is given a pod's name and a line of its."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines."""

    component: str = names.WORKER
    follow: bool = False
    previous: bool = False
    """Of the container before the last restart."""
    lines: int = 100
    """Of each pod, at first."""


async def write_logs(cluster: Cluster, name: str, wanted: Wanted, *, write: Write, tell: Callable[[str], None]) -> None:
    """Write the lines of all pods of a component as they come; with `follow` it never ends by itself.

    Args:
        cluster: to read from.
        name: of the LLMDeployment.
        wanted: which lines.
        write: for each line.
        tell: for what the person should know beside them.

    Raises:
        Trouble: there is nothing to read yet.
        KubeError: the API server refused, or could not be reached.
    """
    reading: dict[str, asyncio.Task[None]] = {}
    """By container: one that begins anew has another id, and is read from its start."""
    pods_seen: set[str] = set()
    try:
        while True:
            found = [(pod, running) for pod in await cluster.pods(name, wanted.component) if (running := _run(pod))]
            if not found and not wanted.follow:
                raise Trouble(f"No {wanted.component} pod of {name} runs yet: kubectl sundog status {name} says why.")
            for pod, container in found:
                pod_name = str(pod["metadata"]["name"])
                if container not in reading:
                    lines = None if pod_name in pods_seen else wanted.lines
                    one = _read(cluster, pod_name, wanted, lines=lines, write=write, tell=tell)
                    reading[container] = asyncio.create_task(one)
                    pods_seen.add(pod_name)
            if not wanted.follow:
                await asyncio.gather(*reading.values())
                return
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            for task in reading.values():
                if task.done():
                    task.result()  # where nobody reads any more (`| head`), writing has failed: that ends it
    finally:
        for task in reading.values():
            task.cancel()
        await asyncio.gather(*reading.values(), return_exceptions=True)


def _run(pod: Manifest) -> str:
    """Give the id of the container that runs or ran last; empty where none ever did."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] in _CONTAINERS.values():
            last = status.get("lastState", {}).get("terminated", {}).get("containerID", "")
            return str(status.get("containerID") or last)
    return ""


async def _read(
    cluster: Cluster, pod: str, wanted: Wanted, *, lines: int | None, write: Write, tell: Callable[[str], None]
) -> None:
    query = {
        "container": _CONTAINERS[wanted.component],
        "follow": str(wanted.follow).lower(),
        "previous": str(wanted.previous).lower(),
        **({} if lines is None else {"tailLines": str(lines)}),
    }
    try:
        async with aclosing(_lines(cluster, pod, query)) as found:
            async for line in found:
                write(pod, line)
    except KubeError as error:
        if not error.not_found:  # else it has gone
            tell(f"{pod}: {sentence(error)}")


async def _lines(cluster: Cluster, pod: str, query: Mapping[str, str]) -> AsyncGenerator[str, None]:
    """Give lines to who writes them outside the request: an OSError in here is one of the API server's."""
    async with cluster.log(pod, query) as response:
        rest = b""
        async for data in response.content.iter_any():
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")


def as_json_line(pod: str, text: str) -> str:
    """Write a line for programs."""
    return json.dumps({"pod": pod, "line": text}, ensure_ascii=False) + "\n"
