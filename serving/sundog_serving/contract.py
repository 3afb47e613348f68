"""Names that the operator and the serving side must agree upon.

`sundog_operator.core.names` repeats what the operator needs of it; a test asserts that both are equal. Nothing here is
computed.
"""

from enum import StrEnum
from typing import Final

APPLICATION: Final = "llm"
DEPLOYMENT: Final = "engine"
IMPORT_PATH: Final = "sundog_serving.app:build"
REPLICA_RESOURCE: Final = "sundog_replica"

REPLICA_PORT: Final = 30000
HEAD_PROXY_PORT: Final = 8000
HEALTH_ROUTE: Final = "/-/healthz"
"""Ray Serve's own; the only one that needs no token."""
LOAD_ROUTE: Final = "/sundog/load"
ENGINE_ROUTE: Final = "/sundog/engine"
ADAPTERS_ROUTE: Final = "/sundog/adapters"

GIVEN_BACK: Final = 425
"""Status (Too Early) of a request that this replica cannot answer any more and of which it has answered nothing: the
router sends it to another. No engine uses it."""

REPLICA_TOKEN_HEADER: Final = "x-sundog-replica-token"  # noqa: S105 the header's name, not a token
REPLICA_TOKEN_VARIABLE: Final = "SUNDOG_REPLICA_TOKEN"  # noqa: S105 likewise
CONTAINER_LOG_VARIABLE: Final = "SUNDOG_CONTAINER_LOG"
"""A file that gets a copy of the replica's output. Ray keeps it in a file inside the pod; `/proc/1/fd/1` brings it to
`kubectl logs`."""
STALL_SECONDS_VARIABLE: Final = "SUNDOG_STALL_SECONDS"
"""Overrides how long an engine may hold requests without a single step before it counts as wedged."""
READINESS_SECONDS_VARIABLE: Final = "SUNDOG_READINESS_SECONDS"
"""Overrides how long the first answer of a new engine may take."""

MODEL_MOUNT: Final = "/mnt/model"
CACHE_MOUNT: Final = "/mnt/cache"


class Reason(StrEnum):
    """Why an engine did not start; `core/status.py` carries it into the Ready condition."""

    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_UNREADABLE = "ModelUnreadable"
    MODEL_INVALID = "ModelInvalid"
    MODEL_DOWNLOAD_FAILED = "ModelDownloadFailed"
    ENGINE_ARGUMENT_INVALID = "EngineArgumentInvalid"
    ENGINE_VERSION_UNSUPPORTED = "EngineVersionUnsupported"
    ENGINE_START_FAILED = "EngineStartFailed"
    OUT_OF_MEMORY = "OutOfMemory"
