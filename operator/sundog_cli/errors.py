"""What ends a command early: one sentence for the person who gave it."""

from __future__ import annotations


class Trouble(Exception):  # noqa: N818 it is told, not handled
    """A command cannot do what was asked for; the message says what happened, where, and what to do."""
