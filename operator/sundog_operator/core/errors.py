"""Errors of the core: each is told to a person as it stands."""

from __future__ import annotations


class InvalidSpec(Exception):  # noqa: N818 it is a finding about the resource, not a fault of the program
    """A spec that no waiting cures; the message names the field, the cause and the cure."""

    def __init__(self, field: str, cause: str) -> None:
        """Name the field as a person wrote it, `spec.engine.env`, and what to do."""
        self.field = field
        super().__init__(f"{field}: {cause}")
