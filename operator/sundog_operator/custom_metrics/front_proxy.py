"""Who asks: the API server, by its certificate, in the name of a user that it has authenticated.

An API server that passes a request on to an extension shows its front-proxy certificate and names the user in headers.
Which authority signed that certificate, which names it may have and what the headers are called stands in a ConfigMap
(https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sundog_operator.core.names import Manifest

NAMESPACE: Final = "kube-system"
NAME: Final = "extension-apiserver-authentication"


class NoFrontProxy(Exception):  # noqa: N818 there is none
    """The cluster does not say how its API server passes requests on; the message names the cure."""


@dataclass(frozen=True, slots=True)
class User:
    """In whose name a request comes."""

    name: str
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """How the API server is known, and where it names the user."""

    authorities: str
    """As PEM."""
    allowed_names: tuple[str, ...]
    """Common names; empty: any that an authority has signed."""
    user_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this certificate, whose signature `ssl` has checked, may name users."""
        if not certificate:
            return False
        subject = {key: value for part in certificate.get("subject", ()) for key, value in part}
        return not self.allowed_names or subject.get("commonName") in self.allowed_names

    def user(self, headers: Sequence[tuple[str, str]]) -> User | None:
        """Read the user from a request's headers; None: nobody is named."""
        lowered = [(key.lower(), value) for key, value in headers]
        names = [value for header in self.user_headers for key, value in lowered if key == header.lower()]
        if not names:
            return None
        groups = tuple(value for header in self.group_headers for key, value in lowered if key == header.lower())
        extra: dict[str, list[str]] = {}
        for key, value in lowered:
            for prefix in self.extra_prefixes:
                if key.startswith(prefix.lower()):
                    extra.setdefault(key.removeprefix(prefix.lower()), []).append(value)
        return User(names[0], groups, tuple((key, tuple(values)) for key, values in sorted(extra.items())))


def read_front_proxy(config_map: Manifest | None) -> FrontProxy:
    """Read the ConfigMap.

    Raises:
        NoFrontProxy: it does not exist, or the API server has no front-proxy certificate.
    """
    data = (config_map or {}).get("data") or {}
    authorities = data.get("requestheader-client-ca-file", "")
    if not authorities:
        raise NoFrontProxy(
            f"ConfigMap {NAMESPACE}/{NAME} has no requestheader-client-ca-file: the API server runs without an "
            "aggregation layer. Start it with --requestheader-client-ca-file and --proxy-client-cert-file"
        )
    return FrontProxy(
        authorities=authorities,
        allowed_names=_list(data, "requestheader-allowed-names"),
        user_headers=_list(data, "requestheader-username-headers"),
        group_headers=_list(data, "requestheader-group-headers"),
        extra_prefixes=_list(data, "requestheader-extra-headers-prefix"),
    )


def _list(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(str(each) for each in json.loads(data.get(key) or "[]"))
