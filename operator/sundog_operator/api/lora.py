"""LoRA adapters: what is wanted, and what was observed of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from sundog_operator.api.base import APIObject, ObservedObject
from sundog_operator.api.rules import ADAPTER_COUNT, keep
from sundog_operator.api.uri import (
    ADAPTER_REVISION,
    ADAPTER_URI,
    MODEL_NAME,
    REVISION,
    ModelURI,
    known_uri,
    parse_model_uri,
)


class Adapter(APIObject):
    """A LoRA adapter in PEFT's format."""

    model_config = ConfigDict(json_schema_extra=keep(ADAPTER_REVISION))

    name: Annotated[str, StringConstraints(min_length=1, max_length=128), Field(json_schema_extra=keep(MODEL_NAME))]
    """What requests put into "model" to be answered with it."""
    uri: Annotated[
        str,
        StringConstraints(min_length=1, max_length=512),
        AfterValidator(known_uri),
        Field(json_schema_extra=keep(ADAPTER_URI)),
    ]
    """hf://org/name, or pvc://claim/path in the claim of model.uri or of model.cache."""
    revision: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, json_schema_extra=keep(REVISION)
    )
    """Commit, tag or branch; only with hf://. Default: the hub's main branch."""

    @property
    def location(self) -> ModelURI:
        """The parsed `uri`."""
        return parse_model_uri(self.uri)


class LoRA(APIObject):
    """LoRA adapters of the model, and the room for them."""

    model_config = ConfigDict(json_schema_extra=keep(ADAPTER_COUNT))

    adapters: Annotated[tuple[Adapter, ...], Field(max_length=64)] = Field(
        default=(), json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    """The adapters. They come and go on all replicas without a restart. Default: none."""
    max_adapters: Annotated[int, Field(ge=1, le=64)] = 4
    """Most adapters at a time; each replica reserves GPU memory for one more. Default: 4."""
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 32
    """Largest rank of an adapter. Default: 32."""


class AdapterStatus(ObservedObject):
    """One LoRA adapter."""

    name: str
    """Its name."""
    state: str
    """Loaded (on all replicas), Loading or Failed (on one at least)."""
    loaded: int = 0
    """Replicas that answer with it."""
    replicas: int = 0
    """Replicas that should."""
    message: str = ""
    """Why it failed."""
