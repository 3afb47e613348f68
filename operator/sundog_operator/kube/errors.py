"""What the API server, or the way to it, can answer instead of what was asked for."""

from __future__ import annotations

from http import HTTPStatus

_TRANSIENT = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,  # a token that is being rotated
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class KubeError(Exception):
    """A request that did not succeed; the message is the server's own, or says why there was no answer."""

    def __init__(self, message: str, *, status: int | None = None, retry_after_seconds: float | None = None) -> None:
        """Keep the HTTP status (None: no answer came) and what the server said about when to come back."""
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    @property
    def transient(self) -> bool:
        """Whether it tells of the API server's state and not of the request: no person has to act."""
        return self.status is None or self.status in _TRANSIENT

    @property
    def forbidden(self) -> bool:
        """Whether a permission is missing (or a quota or an admission rule refused: the message tells)."""
        return self.status == HTTPStatus.FORBIDDEN

    @property
    def not_found(self) -> bool:
        """Whether the object, its namespace or its kind does not exist."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether the object exists already, or has changed meanwhile."""
        return self.status == HTTPStatus.CONFLICT


class NotLeading(Exception):  # noqa: N818 it is a state, not a fault
    """A write was held back: this process may no longer write, another may be writing."""
