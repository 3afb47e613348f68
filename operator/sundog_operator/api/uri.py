"""Where a model comes from: the URIs that this release can read, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sundog_operator.api.rules import DNS_SUBDOMAIN, Rule, matches

SCHEMES = ("hf", "pvc")
SCHEMES_SENTENCE = (
    "this release reads hf://org/name (or bare org/name) and pvc://claim/path; "
    "a model elsewhere (s3, gs, oci, …) must be copied into a PersistentVolumeClaim first"
)

# As the hub itself has it: letters, digits, '-', '_' and '.', at most 96 of them, none but letters and digits in front.
HUB_PART = r"[A-Za-z0-9][-\w.]{0,95}"
HUB_URI = rf"(hf://)?{HUB_PART}/{HUB_PART}"
# No space, quote, '%', '?' or '#': a path that means the same in a URI, on a command line and in a mount.
CLAIM_URI = rf"pvc://{DNS_SUBDOMAIN}(/[-\w.@+=~]+)*/?"
STEPS_UP = r".*/\.{1,2}(/.*)?"

URI_RULES = (
    Rule(
        r"!self.contains(':') || self.matches('^(hf|pvc)://')",
        f"unknown scheme: {SCHEMES_SENTENCE}",
    ),
    Rule(
        f"self.contains(':') && !self.startsWith('hf://') || {matches(HUB_URI)}",
        """not a model of the hub: write hf://org/name or org/name, each part of at most 96 letters, digits, '-', '_'
        and '.'; a revision goes into spec.model.revision""",
    ),
    Rule(
        f"!self.startsWith('pvc://') || {matches(CLAIM_URI)}",
        """not a directory in a claim: write pvc://claim/path with a claim's name, then a path of letters, digits and
        - _ . @ + = ~, or no path""",
    ),
    Rule(
        f"!self.startsWith('pvc://') || !{matches(STEPS_UP)}",
        "a path with '.' or '..' in it could leave the claim: write the path as it is from the claim's root",
    ),
)

ADAPTER_URI = Rule(
    # The model that parses it knows it to the letter; a second copy of these expressions would be large.
    r"self.matches('^((hf://)?[-\\w.]+/[-\\w.]+|pvc://[-\\w./@+=~]+)$') && !self.matches('/[.]{1,2}(/|$)')",
    "not the place of an adapter: write hf://org/name, or pvc://claim/path without a step '.' or '..'",
)
ADAPTER_REVISION = Rule(
    "!has(self.revision) || !self.uri.startsWith('pvc://')",
    "only an adapter of the hub has a revision",
    field_path=".revision",
)
ADAPTER_CLAIM = Rule(
    """!has(self.lora) || self.lora.adapters.all(a, !a.uri.startsWith('pvc://') || (self.uri.startsWith('pvc://') ?
        a.uri.split('/')[2] == self.uri.split('/')[2] :
        has(self.cache) && a.uri.split('/')[2] == self.cache.persistentVolumeClaim.claimName))""",
    "a claim that no pod has mounted: put adapters into the claim of uri or cache, or take them from the hub",
    field_path=".lora.adapters",
)

_ELSEWHERE = "self.uri.contains(':') && !self.uri.startsWith('hf://')"
HUB_ONLY = tuple(
    Rule(
        f"!has(self.{field}) || !({_ELSEWHERE})",
        f"only a model of the hub (hf://) {why}: leave it out",
        field_path=f".{field}",
    )
    for field, why in (
        ("revision", "has a revision"),
        ("tokenSecretRef", "needs a token"),
        ("cache", "is downloaded and cached"),
    )
)
REVISION = Rule(
    matches(r"[A-Za-z0-9][-\w./]*") + " && !self.contains('..')",
    "not a commit, tag or branch: use letters, digits, '-', '_', '.' and '/', a letter or digit in front",
)
MODEL_NAME = Rule(
    matches(r"[A-Za-z0-9][-\w.:/@]*"),
    "use letters, digits and - _ . : / @, a letter or digit in front: clients write it into each request",
)


@dataclass(frozen=True, slots=True)
class ModelURI:
    """A parsed `spec.model.uri`."""

    scheme: Literal["hf", "pvc"]
    authority: str
    """hf: the organisation; pvc: the claim's name."""
    path: str
    """hf: the model's name; pvc: the directory below the claim's root without slashes at its ends, "" for the root."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}" + (f"/{self.path}" if self.path else "")


def parse_model_uri(uri: str) -> ModelURI:
    """Parse `uri`; bare `org/name` means the hub.

    Raises:
        ValueError: it is none that this release reads; the message says which are.
    """
    if re.fullmatch(HUB_URI, uri, re.ASCII):
        organisation, name = uri.removeprefix("hf://").split("/")
        return ModelURI("hf", organisation, name)
    if re.fullmatch(CLAIM_URI, uri, re.ASCII) and not re.fullmatch(STEPS_UP, uri):
        claim, _, path = uri.removeprefix("pvc://").partition("/")
        return ModelURI("pvc", claim, path.rstrip("/"))
    raise ValueError(f"{uri!r} is not a model: {SCHEMES_SENTENCE}")


def known_uri(uri: str) -> str:
    """Return `uri` as it is, for the models' own check.

    Raises:
        ValueError: it is none that this release reads.
    """
    parse_model_uri(uri)
    return uri
