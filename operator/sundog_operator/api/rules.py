"""Rules that the API server keeps: CEL expressions with a message that names the cure.

They stand at the field they are about, so that the server's error carries its path. Whatever an expression walks has a
bound in the schema (maxLength, maxItems, maxProperties): the server refuses a CRD whose rules could cost too much.
A rule is better than a `pattern`: the error of a pattern shows the regular expression, not what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic.config import JsonDict

KEYWORD = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of x-kubernetes-validations."""

    rule: str
    """CEL; `self` is the value the rule stands at. Whitespace between tokens doesn't matter."""
    message: str
    """A fixed sentence: what is wrong and what to do. The API server puts the field's path in front."""
    field_path: str = ""
    """The field below `self` that is to blame, as in `.tensor`."""

    def entry(self) -> dict[str, Any]:
        """Return the entry as it stands in the CRD."""
        entry = {"rule": " ".join(self.rule.split()), "message": " ".join(self.message.split())}
        if self.field_path:
            entry["fieldPath"] = self.field_path
        return entry


def keep(*rules: Rule) -> JsonDict:
    """Return what pydantic's `json_schema_extra` takes to attach `rules` to a model or to a field."""
    return {KEYWORD: [rule.entry() for rule in rules]}


def matches(pattern: str, subject: str = "self") -> str:
    """Return a CEL expression: all of `subject` matches `pattern`."""
    return f"{subject}.matches({text(f'^(?:{pattern})$')})"


def text(value: str) -> str:
    """Return `value` as a CEL string literal; CEL's escapes are a superset of JSON's."""
    return json.dumps(value)


# Short ones: they stand in the CRD many times. `\w` is of ASCII to the API server; Python needs re.ASCII for that.
DNS_SUBDOMAIN = r"[a-z0-9]+((-+|\.)[a-z0-9]+)*"
QUALIFIED_NAME = rf"({DNS_SUBDOMAIN}/)?[A-Za-z0-9]([-\w.]{{0,61}}[A-Za-z0-9])?"
"""Keys of labels, annotations and resources: an optional DNS prefix, then at most 63 characters."""

OBJECT_NAME = Rule(
    matches(DNS_SUBDOMAIN),
    "not an object's name: use lower-case letters, digits, '-' and '.', a letter or digit at both ends",
)
OBJECT_NAME_OR_NONE = Rule(f"self == '' || {OBJECT_NAME.rule}", OBJECT_NAME.message)
DATA_KEY = Rule(
    matches(r"[-.\w]+"),
    "not a key of a Secret or ConfigMap: use letters, digits, '-', '_' and '.'",
)
QUALIFIED_KEYS = Rule(
    f"self.all(k, k.size() <= 317 && {matches(QUALIFIED_NAME, 'k')})",
    "each key must be a name of at most 63 letters, digits, '-', '_' and '.', with a DNS name and '/' in front or not",
)
LABEL_VALUE = Rule(
    matches(r"([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?"),
    "not a label's value: use letters, digits, '-', '_' and '.', a letter or digit at both ends",
)

IMAGE = Rule(
    "self == '' || " + matches(r"[A-Za-z0-9][-\w.:/@]*"),
    "not an image: write registry/name:tag or registry/name@sha256:…, without spaces",
)

NAME = (
    Rule(
        "self.metadata.name.size() <= 40",
        """metadata.name must have at most 40 characters: the pods' names are made from it (<name>-<revision>-worker-…)
        and Kubernetes allows them 63""",
    ),
    Rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        """metadata.name must begin with a letter and hold only lower-case letters, digits and '-': it becomes the name
        of a Service""",
    ),
)

ADAPTER_NAMES = Rule(
    """!has(self.spec.model.lora) || self.spec.model.lora.adapters.all(a,
        a.name != (has(self.spec.model.name) ? self.spec.model.name : self.metadata.name))""",
    "an adapter must not have the model's own name: rename one, since requests name either",
    field_path=".spec.model.lora.adapters",
)
ADAPTER_COUNT = Rule(
    "self.adapters.size() <= self.maxAdapters",
    "more adapters than maxAdapters: raise it, or leave some out",
    field_path=".adapters",
)

# Rules of a map's values look at one value, so that the error's path carries the key.
AMOUNT = Rule(
    "isQuantity(string(self)) && !string(self).startsWith('-')",
    "not an amount: write a number that is not negative, with a unit where needed, as in 2, 500m or 24Gi",
)
POSITIVE_AMOUNT = Rule(
    "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) > 0",
    "not an amount greater than zero: write a number with a unit, as in 1Gi",
)

RESOURCE_NAMES = Rule(
    f"""self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') ||
        k.contains('/') && k.size() <= 317 && {matches(QUALIFIED_NAME, "k")})""",
    "not a resource: use cpu, memory, ephemeral-storage, hugepages-…, or a device such as nvidia.com/gpu",
)
PLAIN_RESOURCE_NAMES = Rule(
    "self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])",
    "not a resource: use cpu, memory or ephemeral-storage; devices are for replicas, in spec.resources",
)
WHOLE_DEVICES = Rule(
    "self.all(k, !k.contains('/') || !isQuantity(string(self[k])) || quantity(string(self[k])).isInteger())",
    "devices (names with a '/') come in whole numbers only",
)

# A value that is no amount has its own error; comparing it would only add an unreadable one.
_AMOUNTS = "isQuantity(string(self.requests[k])) && isQuantity(string(self.limits[k]))"
_COMPARED = "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k])))"
NOT_ABOVE_LIMIT = Rule(
    f"self.requests.all(k, !(k in self.limits && {_AMOUNTS}) || {_COMPARED} <= 0)",
    "a request must not be greater than its limit: raise limits or lower requests",
    field_path=".requests",
)
RESOURCES = (
    NOT_ABOVE_LIMIT,
    Rule(
        f"self.requests.all(k, !k.contains('/') || k in self.limits && (!({_AMOUNTS}) || {_COMPARED} >= 0))",
        "a device (a name with a '/') belongs in limits: Kubernetes then requests the same, and allows nothing else",
        field_path=".requests",
    ),
)

_GPU_LIMIT = "string(self.resources.limits[k])"
GPUS = Rule(
    f"""self.resources.limits.all(k, !k.endsWith('/gpu') ||
        !isQuantity({_GPU_LIMIT}) || !quantity({_GPU_LIMIT}).isInteger() ||
        quantity({_GPU_LIMIT}).asInteger() == self.parallelism.tensor * self.parallelism.pipeline)""",
    # Without the numbers: the server takes string(an integer) for one of unbounded length and refuses the rule.
    """a replica uses parallelism.tensor times parallelism.pipeline GPUs, so that many must stand in resources.limits:
    set parallelism.tensor to the number of GPUs, or change the limit""",
    field_path=".resources.limits",
)

AUTOSCALING = (
    Rule(
        "self.class == 'External' || has(self.maxReplicas)",
        "maxReplicas is missing: say how many replicas there may be at most",
        field_path=".maxReplicas",
    ),
    Rule(
        "!has(self.maxReplicas) || (has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas",
        "minReplicas must not be greater than maxReplicas",
        field_path=".minReplicas",
    ),
    Rule(
        "!has(self.idleSeconds) || has(self.minReplicas) && self.minReplicas == 0",
        "idleSeconds is about scaling to zero: set minReplicas: 0, or leave it out",
        field_path=".idleSeconds",
    ),
    Rule(
        """self.class != 'External' || !(has(self.minReplicas) || has(self.maxReplicas) || has(self.idleSeconds) ||
        has(self.metrics) || has(self.behavior))""",
        "class External leaves all to an autoscaler of your own: leave the other fields out",
        field_path=".class",
    ),
)

ROLLOUT = (
    Rule(
        "self.maxSurge + self.maxUnavailable > 0",
        "with both 0 no replica could be replaced: set maxSurge or maxUnavailable to 1",
        field_path=".maxUnavailable",
    ),
    Rule(
        "self.minReadySeconds < self.progressDeadlineSeconds",
        "must be less than progressDeadlineSeconds",
        field_path=".minReadySeconds",
    ),
)
REVISION_HASH = Rule(
    "self == '' || self.matches('^[0-9a-f]{8}$')",
    "not a hash of status.revisions: write eight of 0-9 and a-f",
)

TOLERATION = (
    Rule(
        "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
        "operator Exists asks for no value: leave value out, or use operator Equal",
        field_path=".value",
    ),
    Rule(
        "has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists'",
        "a toleration without a key is for every taint: set operator: Exists, or give a key",
        field_path=".key",
    ),
    Rule(
        "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
        "tolerationSeconds is about being evicted: set effect: NoExecute, or leave it out",
        field_path=".tolerationSeconds",
    ),
)
