"""The parts of an LLMDeployment that have the shape of Kubernetes' own types, reduced to what Sundog passes on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema

from sundog_operator.api.base import QUANTITY_SCHEMA, APIObject, ObjectName, ObservedObject, Quantity
from sundog_operator.api.environment_variables import ONE_SOURCE, ONE_VALUE, VARIABLE_NAME
from sundog_operator.api.rules import (
    AMOUNT,
    DATA_KEY,
    LABEL_VALUE,
    NOT_ABOVE_LIMIT,
    PLAIN_RESOURCE_NAMES,
    RESOURCE_NAMES,
    RESOURCES,
    TOLERATION,
    WHOLE_DEVICES,
    keep,
)

DataKey = Annotated[str, StringConstraints(min_length=1, max_length=253), Field(json_schema_extra=keep(DATA_KEY))]
LabelValue = Annotated[str, StringConstraints(max_length=63), Field(json_schema_extra=keep(LABEL_VALUE))]


class SecretKeySelector(APIObject):
    """One key of a Secret."""

    name: ObjectName
    """Name of a Secret in the same namespace."""
    key: DataKey
    """Key within its data."""
    optional: bool | None = None
    """Whether the pod may start without it. Default: no."""


class ConfigMapKeySelector(APIObject):
    """One key of a ConfigMap."""

    name: ObjectName
    """Name of a ConfigMap in the same namespace."""
    key: DataKey
    """Key within its data."""
    optional: bool | None = None
    """Whether the pod may start without it. Default: no."""


class FieldSelector(APIObject):
    """One field of the pod."""

    field_path: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """Path of the field, as in spec.nodeName or status.hostIP."""


class EnvVarSource(APIObject):
    """Where the value of an environment variable comes from: exactly one of the fields."""

    model_config = ConfigDict(json_schema_extra=keep(ONE_SOURCE))

    secret_key_ref: SecretKeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: ConfigMapKeySelector | None = None
    """A key of a ConfigMap."""
    field_ref: FieldSelector | None = None
    """A field of the pod."""


class EnvVar(APIObject):
    """One environment variable."""

    model_config = ConfigDict(json_schema_extra=keep(ONE_VALUE))

    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=128),
        Field(json_schema_extra=keep(*VARIABLE_NAME)),
    ]
    """Name of the variable."""
    value: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """Its value; $(OTHER) refers to another variable, as in a pod."""
    value_from: EnvVarSource | None = None
    """Where the value comes from, in place of value."""


# Not by json_schema_extra: pydantic drops it beside a WithJsonSchema that is no field of its own.
Amount = Annotated[Quantity, WithJsonSchema(QUANTITY_SCHEMA | keep(AMOUNT))]
Amounts = Annotated[dict[str, Amount], Field(max_length=16, json_schema_extra=keep(RESOURCE_NAMES, WHOLE_DEVICES))]


PlainAmounts = Annotated[dict[str, Amount], Field(max_length=3, json_schema_extra=keep(PLAIN_RESOURCE_NAMES))]


class PlainResources(APIObject):
    """Compute resources of a pod without devices, as in a container's resources."""

    model_config = ConfigDict(json_schema_extra=keep(NOT_ABOVE_LIMIT))

    requests: PlainAmounts = Field(default_factory=dict)
    """What the scheduler reserves."""
    limits: PlainAmounts = Field(default_factory=dict)
    """What the pod may use at most."""


class Resources(APIObject):
    """Compute resources of one pod, as in a container's resources."""

    model_config = ConfigDict(json_schema_extra=keep(*RESOURCES))

    requests: Amounts = Field(default_factory=dict)
    """What the scheduler reserves."""
    limits: Amounts = Field(default_factory=dict)
    """What the pod may use at most. Devices such as nvidia.com/gpu stand here."""


class Toleration(APIObject):
    """A taint that pods tolerate, as in a pod."""

    model_config = ConfigDict(json_schema_extra=keep(*TOLERATION))

    key: Annotated[str, StringConstraints(max_length=316)] | None = None
    """Key of the taint; empty, with operator Exists, is every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """How value is compared. Default: Equal, as Kubernetes has it."""
    value: LabelValue | None = None
    """Value of the taint; only with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: every effect."""
    toleration_seconds: int | None = None
    """Seconds a pod stays after the taint came; only with effect NoExecute. Default: for ever."""


class Condition(ObservedObject):
    """One aspect of the state, as in metav1.Condition."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    """What it is about: Ready, Reconciling, Stalled, Available, Scheduled."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """Why, in one word for programs."""
    message: Annotated[str, StringConstraints(max_length=32768)] = ""
    """Why, in a sentence for people, with the cure where there is one."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When status last changed (RFC 3339)."""
    observed_generation: int | None = None
    """The metadata.generation that it was computed from."""


class ObjectMeta(ObservedObject):
    """The metadata that the operator reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
