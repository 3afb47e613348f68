"""The traps between pydantic's JSON schema and what an API server takes for structural."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from sundog_operator.api.base import APIObject, Quantity
from sundog_operator.api.rules import KEYWORD, Rule, keep
from sundog_operator.api.schema import NotStructuralError, structural_schema, with_defaults

BROKEN = Rule("self.size() > 1", "too short: write more")
POSITIVE = Rule("self > 0", "not positive: write more")


class Inner(APIObject):
    """A thing inside."""

    size: int = 3


def field(annotation: Any, **given: Any) -> dict[str, Any]:
    """The schema of a field `x` of that type."""
    model = type("Outer", (BaseModel,), {"__annotations__": {"x": annotation}, **given})
    schema: dict[str, Any] = structural_schema(model)["properties"]["x"]
    return schema


def test_a_reference_is_put_in_its_place_with_the_fields_own_description() -> None:
    described = Annotated[Inner, Field(description="What it is\n    for.")]
    assert field(described) == {
        "description": "What it is for.",
        "type": "object",
        "properties": {"size": {"type": "integer", "default": 3}},
    }


def test_an_optional_field_is_one_that_may_be_left_out() -> None:
    assert field(str | None, x=None) == {"type": "string"}
    assert field(Inner | None, x=None)["properties"] == {"size": {"type": "integer", "default": 3}}


def test_integer_or_string_is_the_one_union() -> None:
    assert field(int | str) == {"x-kubernetes-int-or-string": True}
    assert field(Quantity) == {"x-kubernetes-int-or-string": True, "maxLength": 32}


@pytest.mark.parametrize("union", [int | bool, Inner | str, str | list[str], int | str | float])
def test_another_union_is_refused_with_its_field(union: Any) -> None:
    with pytest.raises(NotStructuralError, match=r"^x: a union of .*the only union in a CRD is integer or string"):
        field(union)


def test_a_fault_deep_inside_names_its_path() -> None:
    class Deep(APIObject):
        choices: dict[str, list[int | bool]]

    with pytest.raises(NotStructuralError, match=r"^x\.choices\.\*\[\]: a union of integer, boolean"):
        field(Deep)


def test_a_constant_is_an_enumeration_of_one() -> None:
    assert field(Literal["a"]) == {"type": "string", "enum": ["a"]}
    assert field(Literal["a", "b"]) == {"type": "string", "enum": ["a", "b"]}


def test_an_exclusive_bound_is_a_flag_beside_the_bound() -> None:
    assert field(Annotated[int, Field(gt=0, lt=9)]) == {
        "type": "integer",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 9,
        "exclusiveMaximum": True,
    }


def test_a_map_of_anything_keeps_what_it_does_not_know() -> None:
    assert field(dict[str, Any]) == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert field(Any) == {"x-kubernetes-preserve-unknown-fields": True}


def test_a_map_with_a_bound_has_the_bound() -> None:
    assert field(Annotated[dict[str, int], Field(max_length=4)]) == {
        "type": "object",
        "maxProperties": 4,
        "additionalProperties": {"type": "integer"},
    }


def test_a_forbidden_extra_field_is_pruned_not_declared() -> None:
    """`additionalProperties: false` beside properties makes a CRD invalid; the server prunes unknown fields anyway."""
    assert "additionalProperties" not in field(Inner)


def test_a_list_says_how_it_is_merged() -> None:
    assert field(list[int])["x-kubernetes-list-type"] == "atomic"
    assert field(set[int]) == {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"}
    keyed = Annotated[list[Inner], Field(json_schema_extra={"x-kubernetes-list-type": "map"})]
    assert field(keyed)["x-kubernetes-list-type"] == "map"


def test_a_list_of_fixed_places_is_refused() -> None:
    with pytest.raises(NotStructuralError, match="x: a CRD's schema has no keyword prefixItems"):
        field(tuple[int, str])


def test_a_type_that_contains_itself_is_refused() -> None:
    with pytest.raises(NotStructuralError, match="Tree contains itself"):
        structural_schema(Tree)


class Tree(APIObject):
    children: list[Tree] = Field(default_factory=list)


def test_rules_of_a_type_and_of_a_field_hold_together() -> None:
    ruled = Annotated[Ruled, Field(json_schema_extra=keep(POSITIVE))]
    assert field(ruled)[KEYWORD] == [BROKEN.entry(), POSITIVE.entry()]


class Ruled(APIObject):
    model_config = ConfigDict(json_schema_extra=keep(BROKEN))
    size: int = 3


def test_a_default_that_a_factory_makes_is_there() -> None:
    assert field(dict[str, int], x=Field(default_factory=dict))["default"] == {}


def test_an_object_of_defaults_is_filled_by_the_server_field_by_field() -> None:
    assert field(Inner, x=Inner())["default"] == {}


def test_an_object_with_rules_is_filled_in_the_crd() -> None:
    """On installation the server tries rules on the default as it is written, before it fills it."""
    assert field(Ruled, x=Ruled())["default"] == {"size": 3}


def test_a_default_that_the_server_would_not_arrive_at_is_refused() -> None:
    with pytest.raises(NotStructuralError, match=r"^x: the default .*4.* is not what the fields' own defaults give"):
        field(Inner, x=Inner(size=4))


def test_with_defaults_fills_lists_maps_and_objects_but_nothing_that_is_absent() -> None:
    class Holder(APIObject):
        inner: Inner = Inner()
        optional: Inner | None = None
        listed: list[Inner] = Field(default_factory=list)
        mapped: dict[str, Inner] = Field(default_factory=dict)

    filled = with_defaults({"listed": [{}], "mapped": {"a": {"size": 1}, "b": {}}}, structural_schema(Holder))
    assert filled == {
        "inner": {"size": 3},
        "listed": [{"size": 3}],
        "mapped": {"a": {"size": 1}, "b": {"size": 3}},
    }
