"""What a pass has seen of the world: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog_operator.core.names import Manifest, ObjectKey


@dataclass(frozen=True, slots=True)
class HeadUnreachable:
    """A head that did not answer."""

    reason: str
    """One sentence, for people."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One Serve replica, as the head tells it."""

    replica_id: str
    state: str
    """`STARTING`, `RUNNING`, `STOPPING`, … (Ray's ReplicaState)."""
    node_ip: str | None
    """The worker pod's address; None until Ray has placed it."""


@dataclass(frozen=True, slots=True)
class ServeState:
    """A head's answer about its application."""

    application_status: str | None
    """`RUNNING`, `DEPLOYING`, `DEPLOY_FAILED`, `UNHEALTHY`, …; None: no application was PUT yet."""
    message: str = ""
    """Of the application and of its deployment, together: here stands the traceback of a failed start."""
    target_replicas: int | None = None
    replicas: tuple[Replica, ...] = ()
    deployed_unix_seconds: float = 0.0
    """When it was PUT last."""
    deployed_config: Mapping[str, Any] | None = None
    """The application's config as it was PUT (Ray echoes it); to tell whether a PUT is needed."""


@dataclass(frozen=True, slots=True)
class RouterLoad:
    """What one router says."""

    ongoing: int
    """Requests without their whole answer, those that wait included."""
    waiting: int
    """Those of them that no replica has taken: in the router's queue, or held by the head."""
    idle_seconds: float
    """Since it last had a request, as far as it was noticed: when one came, or when it was asked for its load."""
    servers: int
    """Where it can send a request: replicas that are up; where there is none, the head, if it would hold one."""


@dataclass(frozen=True, slots=True)
class AdapterState:
    """What a replica says of one LoRA adapter that it was told to have."""

    name: str
    uri: str
    revision: str | None
    state: str
    """`loading`, `loaded` or `failed`."""
    message: str = ""
    """Why it failed, in the engine's words."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One LLMDeployment and all that belongs to it, as read."""

    resource: Manifest
    children: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    """All objects with our label and our owner uid; no pods, and no Secrets (the operator cannot read any)."""
    pods: tuple[Manifest, ...] = ()
    heads: Mapping[str, ServeState | HeadUnreachable] = field(default_factory=dict)
    """By revision hash; a head that was not asked is absent."""
    routers: Mapping[str, RouterLoad | str] | None = None
    """By pod; a string says why one said nothing. None: they were not asked."""
    adapters: Mapping[str, tuple[AdapterState, ...] | str] = field(default_factory=dict)
    """By pod of a replica that is ready, where there are LoRA adapters; a string says why one said nothing."""
    other_autoscalers: tuple[Manifest, ...] = ()
    """HorizontalPodAutoscalers that target it and are not ours."""
    custom_metrics_trouble: str | None = None
    """Why no HorizontalPodAutoscaler can ask for its load."""
    keda: bool = False
    """Whether the cluster knows ScaledObjects."""
    scaled_to: int | None = None
    """The number of replicas that this process was the last to write, as far as it remembers."""
    default_storage_class: bool = True
    """Whether a claim without a class finds one."""
    unix_seconds: float = 0.0
    """When it was observed: the only clock of the core."""
