"""Who may name users, and whom a request names: as the ConfigMap of the API server says it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sundog_operator.core.names import Manifest
from sundog_operator.custom_metrics.front_proxy import FrontProxy, NoFrontProxy, User, read_front_proxy

CONFIG_MAP: Manifest = {
    "data": {
        "client-ca-file": "the authority of people, who must not name users",
        "requestheader-client-ca-file": "the front proxy's authority",
        "requestheader-allowed-names": json.dumps(["front-proxy-client", "aggregator"]),
        "requestheader-username-headers": json.dumps(["X-Remote-User"]),
        "requestheader-group-headers": json.dumps(["X-Remote-Group"]),
        "requestheader-extra-headers-prefix": json.dumps(["X-Remote-Extra-"]),
    }
}
KNOWN = FrontProxy(
    authorities="the front proxy's authority",
    allowed_names=("front-proxy-client", "aggregator"),
    user_headers=("X-Remote-User",),
    group_headers=("X-Remote-Group",),
    extra_prefixes=("X-Remote-Extra-",),
)


def certificate(*subject: tuple[str, str]) -> dict[str, Any]:
    """As `ssl` tells one whose signature it has checked."""
    return {"subject": tuple((part,) for part in subject), "subjectAltName": (("DNS", "front-proxy-client"),)}


def test_the_config_map_says_how_the_api_server_is_known() -> None:
    assert read_front_proxy(CONFIG_MAP) == KNOWN


@pytest.mark.parametrize(
    "found", [None, {}, {"data": None}, {"data": {**CONFIG_MAP["data"], "requestheader-client-ca-file": ""}}]
)
def test_without_an_authority_nobody_is_trusted_and_the_cure_is_told(found: Manifest | None) -> None:
    with pytest.raises(NoFrontProxy, match="Start it with --requestheader-client-ca-file"):
        read_front_proxy(found)


@pytest.mark.parametrize(
    ("shown", "admitted"),
    [
        (certificate(("commonName", "front-proxy-client")), True),
        (certificate(("organizationName", "kubernetes"), ("commonName", "aggregator")), True),
        (certificate(("commonName", "somebody")), False),
        (certificate(("commonName", "front-proxy-client.somebody")), False),
        (certificate(("organizationName", "front-proxy-client"), ("commonName", "somebody")), False),
        (certificate(("organizationName", "front-proxy-client")), False),
        (certificate(), False),
        ({}, False),
        (None, False),
    ],
    ids=str,
)
def test_only_a_common_name_that_is_allowed_is_admitted(shown: dict[str, Any] | None, *, admitted: bool) -> None:
    assert KNOWN.admits(shown) is admitted


def test_where_no_names_are_listed_any_certificate_is_admitted_but_none_is_not() -> None:
    anyone = replace(KNOWN, allowed_names=())
    assert anyone.admits(certificate(("commonName", "somebody")))
    assert not anyone.admits(None)
    assert not anyone.admits({})


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        ([("X-Remote-User", "ada")], User("ada")),
        ([("x-remote-user", "ada"), ("X-REMOTE-GROUP", "a"), ("x-remote-group", "b")], User("ada", ("a", "b"))),
        (
            [("X-Remote-User", "ada"), ("X-Remote-Extra-Scopes", "x"), ("X-Remote-Extra-Scopes", "y")],
            User("ada", (), (("scopes", ("x", "y")),)),
        ),
        ([("X-Remote-Group", "system:masters"), ("X-Remote-Extra-Scopes", "x")], None),
        ([("Authorization", "Bearer of-somebody"), ("X-Forwarded-User", "ada")], None),
        ([], None),
    ],
)
def test_a_request_names_its_user_by_the_agreed_headers_alone(
    headers: list[tuple[str, str]], user: User | None
) -> None:
    assert KNOWN.user(headers) == user
