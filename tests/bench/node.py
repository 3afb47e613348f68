"""A node of its own with Sundog on it, for what has to be measured in real pods."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.errors import BenchError
from tests.cluster import Cluster, Level, down
from tests.cluster.progress import Progress
from tests.demo.chart import own_images, upgrade
from tests.demo.kubernetes import programs
from tests.images import images


@contextmanager
def node(name: str, progress: Progress) -> Iterator[Cluster]:
    """Bring up a node with the images of this checkout, and take it down after the block.

    Raises:
        ClusterError, ImageError: the node or an image could not be made.
    """
    down(name)
    try:
        archives = images(progress)
        cluster = Cluster.up(name=name, level=Level.NODE, progress=progress)
        with progress.task("Loading the images") as task:
            for done, archive in enumerate(archives.values()):
                task.update(done=done, total=len(archives))
                cluster.load_image(archive)
        yield cluster
    finally:
        down(name)


def install(cluster: Cluster) -> None:
    """Install the chart.

    Raises:
        BenchError: helm said no.
    """
    found = programs(cluster.kubeconfig, prefer_installed=False)
    command = [str(part) for part in upgrade(found, own_images(cluster.kubeconfig))]
    done = subprocess.run(command, env={**os.environ, **found.environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"helm could not install the chart: {(done.stderr or done.stdout).strip()}")
