"""Arguments of the engine that Sundog sets itself, and where each is said instead.

The values of `spec.engine.args` have any JSON type, which CEL cannot see; nor can it see the names in a map of such
values. What it can see are properties that the schema names: so each refused name is a property, in both spellings,
with a rule that never holds. What is left (the form of a name, one argument in two spellings) is checked by the model,
which the operator's first step parses, and by the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sundog_operator.api.rules import Rule, keep

MAX_ARGUMENTS: Final = 128
ARGUMENT_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


class _Refused(NamedTuple):
    types: str
    """The value's type in the engine, for the schema: a value of another type is refused with an error about that."""
    cure: str


_ONE_POD = "a replica is one pod; set spec.replicas"
_ROUTER = "the router is the only way in; set spec.service"
_TLS = "put TLS in front of the Service"
_READABLE = "written here anyone could read it"

REFUSED: Final[dict[str, _Refused]] = {
    "model": _Refused("string", "set spec.model.uri"),
    "served-model-name": _Refused("string", "set spec.model.name"),
    "revision": _Refused("string", "set spec.model.revision"),
    "hf-token": _Refused("string", f"set spec.model.tokenSecretRef; {_READABLE}"),
    "download-dir": _Refused("string", "set spec.model.cache"),
    "tensor-parallel-size": _Refused("integer", "set spec.parallelism.tensor"),
    "pipeline-parallel-size": _Refused("integer", "set spec.parallelism.pipeline"),
    "distributed-executor-backend": _Refused("string", "set spec.parallelism"),
    "data-parallel-size": _Refused("integer", _ONE_POD),
    "host": _Refused("string", _ROUTER),
    "port": _Refused("integer", "set spec.service.port"),
    "api-key": _Refused("string", f"check keys in front of the Service; {_READABLE}"),
    "config": _Refused("string", "write its content into spec.engine.args"),
}
"""By the name in kebab case: what people bring along from a command line. The API server refuses these."""

_REFUSED_LATER: Final = {
    "api-server-count": _ONE_POD,
    **dict.fromkeys(
        ("enable-lora", "lora-modules", "max-cpu-loras", "max-lora-rank", "max-loras"), "set spec.model.lora"
    ),
    "device-ids": "set spec.resources.limits",
    "enable-ssl-refresh": _TLS,
    "grpc": _ROUTER,
    "grpc-port": _ROUTER,
    "headless": _ONE_POD,
    "master-addr": _ONE_POD,
    "master-port": _ONE_POD,
    "middleware": _ROUTER,
    "model-tag": "set spec.model.uri",
    "nnodes": _ONE_POD,
    "node-rank": _ONE_POD,
    "prefill-context-parallel-size": "set spec.parallelism",
    "root-path": _ROUTER,
    "uds": _ROUTER,
}
_REFUSED_FAMILIES: Final = {"data-parallel-": _ONE_POD, "ssl-": _TLS}
"""Rare ones: the operator refuses them, since a CRD that named all would be a third longer."""


def refusal(kebab: str) -> str | None:
    """Return what to do instead of setting the argument, or None where it may be set."""
    if kebab in REFUSED:
        return REFUSED[kebab].cure
    family = next((cure for prefix, cure in _REFUSED_FAMILIES.items() if kebab.startswith(prefix)), None)
    return _REFUSED_LATER.get(kebab, family)


def refused_arguments() -> list[tuple[str, str]]:
    """Return all refused names, in kebab case, and what to do instead; a name that ends in `…` is a family."""
    return [
        *((name, refused.cure) for name, refused in REFUSED.items()),
        *_REFUSED_LATER.items(),
        *((f"{prefix}…", cure) for prefix, cure in _REFUSED_FAMILIES.items()),
    ]


def _property(refused: _Refused) -> dict[str, Any]:
    return {"type": refused.types, **keep(Rule("false", f"set by Sundog: {refused.cure}"))}


def arguments_schema() -> dict[str, Any]:
    """Return the schema of `spec.engine.args`."""
    properties = {name: _property(refused) for name, refused in REFUSED.items()}
    properties |= {name.replace("-", "_"): _property(refused) for name, refused in REFUSED.items()}
    return {
        "type": "object",
        "maxProperties": MAX_ARGUMENTS,
        "properties": properties,
        "x-kubernetes-preserve-unknown-fields": True,
    }


def check_argument_names(names: Iterable[str]) -> None:
    """Check what the API server cannot.

    Raises:
        ValueError: a name is malformed, refused, or given in both spellings; the sentence says what to do.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not ARGUMENT_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is not the name of an argument: write it without dashes in front, as in max-model-len"
            )
        kebab = name.replace("_", "-")
        cure = refusal(kebab)
        if cure:
            raise ValueError(f"{name} is set by Sundog: {cure}")
        if kebab in seen:
            raise ValueError(f"{seen[kebab]} and {name} are the same argument: keep one of them")
        seen[kebab] = name
