"""The schema of `spec.podTemplate`: any part of a PodTemplateSpec, except what would take away the pods' protection.

A whole PodTemplateSpec would be some 600 KiB of schema. This one keeps whatever it doesn't know and names only what
the rules look at. They matter where people may write LLMDeployments who may not write privileged pods. The operator's
own step looks at the merged pod once more, and at what CEL cannot see.
"""

from __future__ import annotations

from typing import Any

from sundog_operator.api.rules import LABEL_VALUE, QUALIFIED_KEYS, Rule, keep

Schema = dict[str, Any]

_RESTRICTED = "Sundog's pods stay at the restricted pod security level: leave"
_USER = Rule(
    """(!has(self.runAsNonRoot) || self.runAsNonRoot) && (!has(self.runAsUser) || self.runAsUser > 0) &&
    (!has(self.seccompProfile) || !has(self.seccompProfile.type) || self.seccompProfile.type != 'Unconfined')""",
    f"{_RESTRICTED} runAsNonRoot: false, runAsUser: 0 and seccompProfile Unconfined out",
)
_POD_CONTEXT = (_USER, Rule("!has(self.sysctls)", f"{_RESTRICTED} sysctls out"))
_CONTAINER_CONTEXT = (
    _USER,
    Rule(
        """(!has(self.privileged) || !self.privileged) &&
        (!has(self.allowPrivilegeEscalation) || !self.allowPrivilegeEscalation) &&
        (!has(self.capabilities) || !has(self.capabilities.add) || self.capabilities.add.size() == 0) &&
        (!has(self.procMount) || self.procMount == 'Default')""",
        f"{_RESTRICTED} privileged, allowPrivilegeEscalation, capabilities.add and procMount out",
    ),
)
_POD = (
    *(
        Rule(
            f"!has(self.{field}) || !self.{field}",
            f"podTemplate must not set {field}: the pod would see the node's own {what}",
        )
        for field, what in (("hostNetwork", "network"), ("hostPID", "processes"), ("hostIPC", "shared memory"))
    ),
    Rule(
        "!has(self.terminationGracePeriodSeconds)",
        "leave terminationGracePeriodSeconds out: it is derived from spec.requestTimeoutSeconds; set that",
    ),
    Rule("!has(self.restartPolicy)", "leave restartPolicy out: pods of a Deployment always restart"),
    Rule(
        "!has(self.serviceAccountName) && !has(self.serviceAccount) && !has(self.automountServiceAccountToken)",
        "leave the service account out: Sundog's pods have one of their own, without a token for the API server",
    ),
)
_VOLUME = Rule(
    "!has(self.hostPath)",
    "hostPath is refused: put the folder behind a PersistentVolume and mount its claim",
)
_PORT = Rule("!has(self.hostPort)", "hostPort is refused: clients come through the Service")
_OWN_LABELS = Rule(
    "self.all(k, !k.startsWith('sundog.dev/') && k != 'app.kubernetes.io/managed-by')",
    "labels sundog.dev/… and app.kubernetes.io/managed-by are Sundog's own: it finds its pods by them",
)


def _opaque(properties: dict[str, Schema] | None = None, rules: tuple[Rule, ...] = ()) -> Schema:
    schema: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if properties:
        schema["properties"] = properties
    if rules:
        schema |= keep(*rules)
    return schema


def _list(items: Schema, *, at_most: int) -> Schema:
    return {"type": "array", "maxItems": at_most, "items": items}


def _named(items: Schema, *, at_most: int) -> Schema:
    """A list that is merged by name, in a pod as on the API server."""
    by_name = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    items = items | {"required": ["name"]}
    items["properties"] = {"name": {"type": "string", "maxLength": 63}} | items["properties"]
    return _list(items, at_most=at_most) | by_name


_ANY_CONTEXT: Schema = {
    "runAsNonRoot": {"type": "boolean"},
    "runAsUser": {"type": "integer"},
    "seccompProfile": _opaque({"type": {"type": "string", "maxLength": 32}}),
}


def _containers() -> Schema:
    context = _ANY_CONTEXT | {
        "privileged": {"type": "boolean"},
        "allowPrivilegeEscalation": {"type": "boolean"},
        "capabilities": _opaque({"add": _list({"type": "string", "maxLength": 64}, at_most=64)}),
        "procMount": {"type": "string", "maxLength": 32},
    }
    container = _opaque(
        {
            "ports": _list(_opaque({"hostPort": {"type": "integer"}}, (_PORT,)), at_most=32),
            "securityContext": _opaque(context, _CONTAINER_CONTEXT),
        }
    )
    return _named(container, at_most=16)


def pod_template_schema() -> Schema:
    """Return the schema of `spec.podTemplate`."""
    labels: Schema = {
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63} | keep(LABEL_VALUE),
        **keep(QUALIFIED_KEYS, _OWN_LABELS),
    }
    spec = _opaque(
        {
            "containers": _containers(),
            "initContainers": _containers(),
            "hostIPC": {"type": "boolean"},
            "hostNetwork": {"type": "boolean"},
            "hostPID": {"type": "boolean"},
            "automountServiceAccountToken": {"type": "boolean"},
            "restartPolicy": {"type": "string", "maxLength": 32},
            "serviceAccount": {"type": "string", "maxLength": 253},
            "serviceAccountName": {"type": "string", "maxLength": 253},
            "securityContext": _opaque(_ANY_CONTEXT | {"sysctls": _list(_opaque(), at_most=32)}, _POD_CONTEXT),
            "terminationGracePeriodSeconds": {"type": "integer"},
            "volumes": _named(_opaque({"hostPath": _opaque()}, (_VOLUME,)), at_most=32),
        },
        _POD,
    )
    return _opaque({"metadata": _opaque({"labels": labels}), "spec": spec})
