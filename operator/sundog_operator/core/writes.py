"""The writes that a plan may ask for, each with its reason; the controller carries them out in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog_operator.core.names import Manifest, ObjectKey


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a manifest (field manager `sundog`, force)."""

    manifest: Manifest
    reason: str
    irreversible: bool = False
    """Whether it takes something away (a worker): then what it rests on is read live first."""


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object that the operator cannot read; that it exists already is as good."""

    manifest: Manifest
    reason: str
    irreversible: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a child, if it still has this uid."""

    key: ObjectKey
    uid: str
    reason: str
    irreversible: bool = True


@dataclass(frozen=True, slots=True)
class PutServe:
    """`PUT /api/serve/applications/` at the head of a revision."""

    revision: str
    config: Mapping[str, Any]
    reason: str
    irreversible: bool = False


@dataclass(frozen=True, slots=True)
class ScaleServe:
    """`POST /api/v1/applications/llm/deployments/engine/scale` at the head of a revision."""

    revision: str
    target: int
    reason: str
    irreversible: bool = False
    """True where it lowers: Serve then drains a replica."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Write `spec.replicas` through the scale subresource, if the LLMDeployment still is as it was observed."""

    replicas: int
    resource_version: str
    reason: str

    @property
    def irreversible(self) -> bool:
        """Whether the last replica goes."""
        return self.replicas == 0


Write = Apply | Create | Delete | PutServe | Scale | ScaleServe


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and when to look again."""

    writes: tuple[Write, ...] = ()
    look_again_seconds: float | None = None
    """None: nothing is under way that no watch would tell."""

    @property
    def irreversible(self) -> bool:
        """Whether any write takes something away."""
        return any(write.irreversible for write in self.writes)
