"""Errors that reach people, each in one sentence that says what happened and what to do."""

from typing import Self

from sundog_serving.contract import Reason

_LONGEST = 1000  # characters; the sentence ends in a Kubernetes condition, beside others


class EngineStartError(Exception):
    """An engine did not start.

    Ray Serve puts the traceback into the application's message; its last line, ``…EngineStartError: <Reason>:
    <sentence>``, is what the operator shows. Hence one line, whatever the cause said.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        """Join reason and sentence into the one line."""
        self.reason = reason
        self.sentence = " ".join(sentence.split())[:_LONGEST]
        super().__init__(f"{reason.value}: {self.sentence}")

    def __reduce__(self) -> tuple[type[Self], tuple[Reason, str]]:
        """Let it cross process borders: by default only the joined line would be handed to ``__init__``."""
        return type(self), (self.reason, self.sentence)


class AdapterError(Exception):
    """An engine did not take a LoRA adapter; it serves on without it."""

    def __init__(self, sentence: str) -> None:
        """Keep it to one line, as a status shows it."""
        super().__init__(" ".join(sentence.split())[:_LONGEST])


class EngineDeadError(Exception):
    """An engine that had started no longer serves; the replica must be replaced."""

    def __init__(self, sentence: str, *, reason: Reason = Reason.ENGINE_START_FAILED) -> None:
        """Keep the reason, too: it matters when the engine dies at its very first request."""
        self.reason = reason
        super().__init__(sentence)
