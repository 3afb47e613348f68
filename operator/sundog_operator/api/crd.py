"""The CustomResourceDefinition of LLMDeployment.

python -m sundog_operator.api.crd                    print it
python -m sundog_operator.api.crd --write PATH ...   write it
python -m sundog_operator.api.crd --check PATH ...   fail where a file is not what the models say
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from sundog_operator.api.generated import run
from sundog_operator.api.rules import KEYWORD
from sundog_operator.api.schema import Schema, structural_schema
from sundog_operator.api.types import GROUP, KIND, PLURAL, VERSION, LLMDeployment

HEADER = "# Made from operator/sundog_operator/api by `python -m sundog_operator.api.crd`; change it there.\n"
WIDTH = 320


def _column(name: str, path: str, *, kind: str = "string", description: str, priority: int = 0) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def _of_ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


COLUMNS = [
    _column("MODEL", ".spec.model.uri", description="Where the model comes from"),
    _column("REPLICAS", ".spec.replicas", kind="integer", description="Replicas that are wanted"),
    _column("READY-REPLICAS", ".status.readyReplicas", kind="integer", description="Replicas that answer"),
    _column("READY", _of_ready("status"), description="Whether all that the spec asks for is there"),
    _column("STATUS", _of_ready("reason"), description="Why, in one word"),
    _column("AGE", ".metadata.creationTimestamp", kind="date", description="Time since it was created"),
    _column("MESSAGE", _of_ready("message"), description="Why, in a sentence", priority=1),
    _column("URL", ".status.url", description="Base URL of the API inside the cluster", priority=1),
]


def resource_schema() -> Schema:
    """Return the structural schema of the whole resource, as the CRD carries it."""
    schema = structural_schema(LLMDeployment)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    # The API server has its own schema of metadata and refuses any other.
    properties["metadata"] = {"type": "object"}
    status = properties["status"]
    _drop_defaults(status)
    # kstatus tells a resource that nobody has looked at from a settled one by it.
    unvisited = {"observedGeneration": -1}
    status["default"] = unvisited
    status["properties"]["observedGeneration"]["default"] = -1
    return {
        "description": schema["description"],
        "type": "object",
        "required": ["spec"],
        "properties": properties,
        KEYWORD: schema[KEYWORD],
    }


def _drop_defaults(schema: Schema) -> None:
    """A status says what was observed: the server must not fill in what nobody has seen."""
    schema.pop("default", None)
    for child in schema.get("properties", {}).values():
        _drop_defaults(child)
    if "items" in schema:
        _drop_defaults(schema["items"])


def custom_resource_definition() -> dict[str, Any]:
    """Return the CRD as a manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["llmdeploy"],
                "categories": ["all", "llm-serving"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": COLUMNS,
                    "schema": {"openAPIV3Schema": resource_schema()},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes what fits on one line: in a deep schema indentation is else a third of the file."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the signature is PyYAML's
        """Write each value out: an anchor is right for YAML, but unreadable in a CRD."""
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:  # noqa: FBT001
        """Choose the style."""
        return super().represent_mapping(tag, mapping, flow_style=flow_style or _fits(mapping))

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:  # noqa: FBT001
        """Choose the style."""
        return super().represent_sequence(tag, sequence, flow_style=flow_style or _fits(sequence))


def _fits(value: Any) -> bool:
    return len(str(value)) < 0.9 * WIDTH


def crd_yaml() -> str:
    """Return the file in `crds/`."""
    return HEADER + yaml.dump(
        custom_resource_definition(), Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True
    )


if __name__ == "__main__":
    sys.exit(run(crd_yaml(), module="sundog_operator.api.crd", arguments=sys.argv[1:]))
