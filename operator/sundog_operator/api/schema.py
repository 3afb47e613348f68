"""From pydantic's JSON schema to the structural OpenAPI v3 schema that a CRD must carry.

What the API server wants and pydantic does not give: no `$ref`, no `title`, no union but "integer or string", nothing
beside a type that it doesn't know. What can't be said is refused here, with the path of the field, rather than by the
API server on installation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from sundog_operator.api.rules import KEYWORD

Schema = dict[str, Any]

_DEFINITIONS = "#/$defs/"
_COPIED = (
    "description",
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "nullable",
)
_EXTENSIONS = "x-kubernetes-"
_CONVERTED = {
    "$defs",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "items",
    "properties",
    "required",
    "title",
    "uniqueItems",
}


class NotStructuralError(ValueError):
    """A model says something that the schema of a CRD cannot."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path or 'the root'}: {reason}")


class _Generator(GenerateJsonSchema):
    """pydantic leaves the default out where a factory makes it; the API server needs it."""

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        factory = schema.get("default_factory")
        if factory is not None and not schema.get("default_factory_takes_data"):
            return factory()  # type: ignore[call-arg]  # of the two kinds it is the one without arguments
        return super().get_default_value(schema)


def structural_schema(model: type[BaseModel]) -> Schema:
    """Return the structural schema of `model`, with camelCase names.

    Raises:
        NotStructuralError: a field has a type that no CRD can express; the message names its path.
    """
    json_schema = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    return _convert(json_schema, json_schema.get("$defs", {}), path="", inside=())


def _convert(node: Schema, definitions: Mapping[str, Schema], *, path: str, inside: tuple[str, ...]) -> Schema:
    while "$ref" in node or "anyOf" in node:
        node, inside = _inline(node, definitions, path=path, inside=inside)
        node = _single_type(node, path=path)
    result = _scalars(node, path=path)
    kind = result.get("type")
    if kind == "object":
        result |= _object(node, definitions, path=path, inside=inside)
    elif kind == "array":
        result |= _array(node, definitions, path=path, inside=inside)
    elif kind is None and not result.get("x-kubernetes-int-or-string"):
        if "enum" in result:
            raise NotStructuralError(path, "the values have no common type")
        result["x-kubernetes-preserve-unknown-fields"] = True
    if node.get("default") is not None:
        result["default"] = _default(node["default"], result, path=path)
    return result


def _scalars(node: Schema, *, path: str) -> Schema:
    """Convert all that doesn't contain another schema."""
    unknown = [key for key in node if key not in {*_COPIED, *_CONVERTED} and not key.startswith(_EXTENSIONS)]
    if unknown:
        raise NotStructuralError(path, f"a CRD's schema has no keyword {', '.join(sorted(unknown))}")
    result: Schema = {key: node[key] for key in _COPIED if key in node}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "const" in node:
        result["enum"] = [node["const"]]
    for bound in ("Minimum", "Maximum"):
        # OpenAPI 3.0 has the exclusive bound as a flag beside the bound; JSON schema has it as a number.
        if f"exclusive{bound}" in node:
            result[bound.lower()] = node[f"exclusive{bound}"]
            result[f"exclusive{bound}"] = True
    return result | {key: value for key, value in node.items() if key.startswith(_EXTENSIONS)}


def _inline(
    node: Schema, definitions: Mapping[str, Schema], *, path: str, inside: tuple[str, ...]
) -> tuple[Schema, tuple[str, ...]]:
    """Put what `$ref` refers to in its place; what stands beside it (the field's own description) wins."""
    if "$ref" not in node:
        return node, inside
    name = str(node["$ref"]).removeprefix(_DEFINITIONS)
    if name in inside:
        raise NotStructuralError(path, f"{name} contains itself; a CRD's schema cannot be recursive")
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return _merge(definitions[name], beside), (*inside, name)


def _merge(below: Schema, above: Schema) -> Schema:
    """`above` wins, except that rules of a type and rules of a field hold together."""
    merged = below | above
    rules = [*below.get(KEYWORD, []), *above.get(KEYWORD, [])]
    return merged | {KEYWORD: rules} if rules else merged


def _single_type(node: Schema, *, path: str) -> Schema:
    """`anyOf [X, null]` is an optional X: in a manifest a field without a value is left out."""
    if "anyOf" not in node:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(options) == 1:
        return _merge(options[0], rest)
    if sorted(str(option.get("type")) for option in options) == ["integer", "string"]:
        return rest | {"x-kubernetes-int-or-string": True}
    types = ", ".join(str(option.get("type", option.get("$ref", "?"))) for option in options)
    raise NotStructuralError(path, f"a union of {types}; the only union in a CRD is integer or string")


def _object(node: Schema, definitions: Mapping[str, Schema], *, path: str, inside: tuple[str, ...]) -> Schema:
    result: Schema = {}
    if node.get("properties"):
        result["properties"] = {
            name: _convert(child, definitions, path=f"{path}.{name}".lstrip("."), inside=inside)
            for name, child in node["properties"].items()
        }
    if node.get("required"):
        result["required"] = list(node["required"])
    values = node.get("additionalProperties", False)
    if values in (True, {}):
        # A map of anything and an object with unknown fields are the same to an API server.
        result["x-kubernetes-preserve-unknown-fields"] = True
    elif values:
        if "properties" in result:
            raise NotStructuralError(path, "named fields and a map in one object; a CRD's schema has either")
        result["additionalProperties"] = _convert(values, definitions, path=f"{path}.*", inside=inside)
    return result


def _array(node: Schema, definitions: Mapping[str, Schema], *, path: str, inside: tuple[str, ...]) -> Schema:
    if "items" not in node:
        raise NotStructuralError(path, "a list must say what its items are")
    result: Schema = {"items": _convert(node["items"], definitions, path=f"{path}[]", inside=inside)}
    if node.get("uniqueItems"):
        # The keyword itself is forbidden in a CRD: it would cost the square of the length.
        result["x-kubernetes-list-type"] = "set"
    elif "x-kubernetes-list-type" not in node:
        result["x-kubernetes-list-type"] = "atomic"
    return result


def _default(value: Any, schema: Schema, *, path: str) -> Any:
    """An object whose every field has its usual default is written `{}`: the API server fills it field by field.

    Rules are the exception: on installation the server tries them on the default as it is written, before filling it.
    """
    if "properties" not in schema or "x-kubernetes-preserve-unknown-fields" in schema:
        return value
    filled = with_defaults({}, schema)
    if {name: field for name, field in value.items() if field is not None} != filled:
        raise NotStructuralError(path, f"the default {value} is not what the fields' own defaults give: {filled}")
    return filled if KEYWORD in schema else {}


def with_defaults(value: Any, schema: Schema) -> Any:
    """Return `value` with the defaults filled in as the API server does it: a named field that is null is left out."""
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    named = schema.get("properties", {})
    result = {name: item for name, item in value.items() if item is not None or name not in named}
    for name, child in named.items():
        if name not in result and "default" in child:
            result[name] = child["default"]
        if name in result:
            result[name] = with_defaults(result[name], child)
    if "additionalProperties" in schema:
        result = {name: with_defaults(item, schema["additionalProperties"]) for name, item in result.items()}
    return result
