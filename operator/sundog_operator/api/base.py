"""What all API models share: how they are written in a manifest, and Kubernetes' scalars that Python has not."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from sundog_operator.api.rules import OBJECT_NAME, keep


class APIObject(BaseModel):
    """A piece of a custom resource: snake_case in Python, camelCase in manifests, immutable, no unknown fields.

    The docstring under a field is its description in the CRD and in the reference.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    def manifest(self) -> dict[str, Any]:
        """Return the object as it stands in a manifest: camelCase, lists and dicts only, nothing that is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ObservedObject(APIObject):
    """A piece that the API server or another version of the operator writes: fields we don't know are left out."""

    model_config = ConfigDict(extra="ignore")


def _quantity_as_text(value: object) -> object:
    # YAML turns `cpu: 2` into an integer. A boolean is an int to Python, but never a quantity.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


QUANTITY_PATTERN = r"^(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$"

# With a bound, or the rules that look at quantities would be too costly for the API server.
QUANTITY_SCHEMA: dict[str, Any] = {"x-kubernetes-int-or-string": True, "maxLength": 32}

Quantity = Annotated[
    str,
    BeforeValidator(_quantity_as_text),
    StringConstraints(max_length=32, pattern=QUANTITY_PATTERN),
    WithJsonSchema(QUANTITY_SCHEMA),
]
"""An amount as Kubernetes writes it ("500m", "24Gi"); an integer in a manifest becomes its text."""

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253), Field(json_schema_extra=keep(OBJECT_NAME))]
"""The name of another object in the same namespace."""
