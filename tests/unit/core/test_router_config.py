"""The router's configuration is a pure function of a few settings, and nothing in it is anybody else's."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from sundog_operator.core import names
from sundog_operator.core.router_config import RouterSettings, router_config

GOLDEN = Path(__file__).parents[2] / "golden" / "router"

DEFAULTS = RouterSettings(
    replicas_host="qwen3-replicas.chat.svc.cluster.local",
    head_host="qwen3-head.chat.svc.cluster.local",
    max_ongoing_per_replica=64,
    max_queue=256,
    request_timeout_seconds=600,
    hard_stop_seconds=615,
)

CASES = {
    "defaults": DEFAULTS,
    "short-requests": dataclasses.replace(
        DEFAULTS, request_timeout_seconds=30, hard_stop_seconds=45, max_ongoing_per_replica=1, max_queue=0
    ),
    "suspended": dataclasses.replace(DEFAULTS, suspended=True),
    "largest": dataclasses.replace(
        DEFAULTS,
        request_timeout_seconds=86400,
        hard_stop_seconds=86415,
        max_ongoing_per_replica=4096,
        max_queue=65536,
        threads=1,
    ),
    "ipv6-and-dns-over-tcp": dataclasses.replace(
        DEFAULTS, listen_host="::", nameservers=("tcp@10.96.0.10:53", "[fd00::a]:53"), address_hold_seconds=5
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_configuration_is_as_read_in_the_golden_file(name: str) -> None:
    """`UPDATE_GOLDEN=1 pytest tests/unit/core/test_router_config.py` writes the files anew."""
    golden = GOLDEN / f"{name}.cfg"
    text = router_config(CASES[name])
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {each.stem for each in GOLDEN.glob("*.cfg")} <= set(CASES)


def test_it_names_the_token_and_never_holds_it() -> None:
    assert f'set-header {names.REPLICA_TOKEN_HEADER} "${{{names.REPLICA_TOKEN_VARIABLE}}}"' in router_config(DEFAULTS)


def test_haproxy_reads_every_line_whole() -> None:
    """It cuts lines at 2,048 characters and takes at most 64 words of one."""
    for name, settings in CASES.items():
        for line in router_config(settings).splitlines():
            assert len(line) < 2048, (name, line)
            assert line.lstrip().startswith("#") or len(line.split("'")[0].split()) <= 64, (name, line)


@pytest.mark.parametrize(
    "host", ["", "a b", "a\n  stats enable", "a:1", "${HOME}", "a'b", "-a", "a" * 254, 'a"', "a#b"]
)
def test_a_host_that_would_be_read_as_configuration_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is no DNS name"):
        dataclasses.replace(DEFAULTS, replicas_host=host)
    with pytest.raises(ValueError, match="is no DNS name"):
        dataclasses.replace(DEFAULTS, head_host=host)


@pytest.mark.parametrize("address", ["", "a.example:53", "10.0.0.1:53 resolv", "10.0.0.1\n", "unix@/x", "${HOME}"])
def test_an_address_that_would_be_read_as_configuration_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        dataclasses.replace(DEFAULTS, nameservers=(address,))
    with pytest.raises(ValueError, match="is no address"):
        dataclasses.replace(DEFAULTS, listen_host=address)


def test_a_wait_for_a_place_is_never_longer_than_a_request_may_take() -> None:
    assert "timeout queue 30s\n" in router_config(dataclasses.replace(DEFAULTS, request_timeout_seconds=30))
    assert "timeout queue 60s\n" in router_config(DEFAULTS)
