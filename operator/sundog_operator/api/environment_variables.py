"""Which environment variables of head and workers are Sundog's own."""

from __future__ import annotations

from typing import Final

from sundog_operator.api.rules import Rule, matches

RESERVED_PREFIXES: Final = ("RAY_", "SUNDOG_")
"""Ray's settings must be the same on every node, and hold the cluster's token; the rest is Sundog's own."""

SETTABLE: Final = ("SUNDOG_READINESS_SECONDS", "SUNDOG_STALL_SECONDS")
"""How long a first answer may take, and a running engine be silent: a replica's messages tell people to set them."""

RESERVED: Final = {
    "HOME": "it is /tmp, the one folder that can be written",
    "HF_TOKEN": "set spec.model.tokenSecretRef",
    "HUGGING_FACE_HUB_TOKEN": "set spec.model.tokenSecretRef",
    "HF_HOME": "set spec.model.cache",
    "PYTHONPATH": "the image finds Sundog's code by it; install other code into spec.engine.image",
    # With vLLM's own logging a replica has no log file, and Serve's next controller stops whatever has none.
    "VLLM_CONFIGURE_LOGGING": "with it a new head pod would stop every replica",
}

VARIABLE_NAME = (
    Rule(
        matches(r"[A-Za-z_][A-Za-z0-9_]*"),
        "not the name of a variable: use letters, digits and '_', no digit in front",
    ),
    Rule(
        " || ".join(
            (
                " && ".join(f"!self.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES),
                *(f"self == '{name}'" for name in SETTABLE),
            )
        ),
        "variables that begin with RAY_ or SUNDOG_ are set by Sundog, the same on every node: leave this one out",
    ),
    *(Rule(f"self != '{name}'", f"{name} is set by Sundog: {cure}") for name, cure in RESERVED.items()),
)

ONE_VALUE = Rule(
    "has(self.value) != has(self.valueFrom)",
    "give either value or valueFrom; for an empty variable write value: ''",
)
ONE_SOURCE = Rule(
    "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].exists_one(given, given)",
    "give exactly one of secretKeyRef, configMapKeyRef and fieldRef",
)
