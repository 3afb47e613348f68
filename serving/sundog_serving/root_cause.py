"""From an engine's failed start to a reason and one sentence.

The exception that reaches us is often only the last of a chain over two processes ("Engine core initialization failed.
See root cause above"). Then the cause is the last traceback that its processes printed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError


@dataclass(frozen=True, slots=True)
class Rule:
    """What a message tells about the cause."""

    pattern: re.Pattern[str]
    reason: Reason
    cure: str


def _rule(reason: Reason, cure: str, *patterns: str) -> Rule:
    return Rule(re.compile("|".join(patterns), re.IGNORECASE), reason, cure)


# The first that fits. The patterns are words of vLLM 0.29 to 0.32, torch and safetensors.
RULES: Final = (
    _rule(
        Reason.OUT_OF_MEMORY,
        "lower max-model-len or max-num-seqs, or give the replica more memory or more GPUs",
        r"out of memory",
        r"OutOfMemoryError",
        r"\bMemoryError\b",
        r"can(?:no|')t allocate memory",
        r"No available memory for the cache blocks",
        r"larger than the available KV cache memory",
        r"Free memory on device .* is less than",
        r"Available memory on node .* is less than",
        r"not enough memory",
    ),
    _rule(
        Reason.MODEL_INVALID,
        "use a model of an architecture that this engine version supports, or a newer engine image",
        r"are not supported for now",
        r"does not recognize this architecture",
        r"Unrecognized model",
        r"has no vLLM implementation",
    ),
    _rule(
        Reason.MODEL_INVALID,
        "the weights do not fit the model's config.json: use files of one and the same model",
        r"exceeds dimension size",
        r"size mismatch for",
        r"There is no module or parameter named",
        r"Attempted to load weight .* into parameter",
    ),
    _rule(
        Reason.MODEL_INVALID,
        "the tokenizer's files are missing or damaged: copy or download them again",
        r"Couldn't instantiate the backend tokenizer",
        r"Can't load tokenizer",
    ),
    _rule(
        Reason.MODEL_INVALID,
        "the model's files are damaged or incomplete: copy or download them again",
        r"SafetensorError",
        r"Error while deserializing header",
        r"Cannot find any model weights",
        r"weights? .*(?:were|was) not initialized from (?:the )?checkpoint",
        r"PytorchStreamReader failed",
    ),
    _rule(
        Reason.MODEL_UNREADABLE,
        "let the pod's user read the model's files (chmod -R a+rX, or fsGroup in the pod template)",
        r"PermissionError",
    ),
)

# Exceptions that only say that another one happened.
_SIGKILL: Final = 9
_SIGNALS: Final = {
    4: "the CPU lacks an instruction that it was built for: try dtype float32, or another image",
    7: "shared memory is used up: enlarge the memory volume on /dev/shm",
    _SIGKILL: "this is what happens when memory runs out: raise spec.resources.limits.memory",
    11: "a native library failed: the replica's log has what it printed",
}
_EXIT_CODE: Final = re.compile(r"(?:Failed core proc\(s\): \{[^}]*: |died unexpectedly \(exit code: )(-\d+)")
_WRAPPERS: Final = re.compile(
    r"See (?:the )?(?:root cause|stack trace|error|logs?) above|WorkerProc initialization failed"
    r"|Engine core initialization failed|EngineDeadError|Executor failed|encountered an issue"
    r"|died unexpectedly|cancelled|KeyboardInterrupt|SystemExit",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(
    r"^(?:\([\w .:-]*pid=\d+\)\s?)?(?:(?:ERROR|CRITICAL|WARNING|INFO)\s[\d:. -]+\[[^\]]+\]\s?)?",
)
_EXCEPTION: Final = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*)(?::\s*(.*))?$")
_CONTINUED_LINES: Final = 6
# What pydantic and vLLM's executors put before the message itself.
_WRAPPED: Final = re.compile(
    r"^ValidationError: \d+ validation errors? for \w+ (?:Value error, )?|^RuntimeError: Worker failed with error ['\"]"
)
_LONG_ENOUGH: Final = 240
_LONGEST: Final = 500


def printed_causes(lines: Sequence[str]) -> list[str]:
    """Return the exceptions whose tracebacks were printed, oldest first, as ``Type: message``."""
    plain = [_PREFIX.sub("", line, count=1) for line in lines]
    causes = []
    inside = False
    for number, line in enumerate(plain):
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and line and not line[0].isspace():
            inside = False
            if found := _EXCEPTION.match(line):
                rest = " ".join(_continuation(plain[number + 1 : number + 1 + _CONTINUED_LINES]))
                causes.append(f"{found[1]}: {found[2] or ''} {rest}".strip().rstrip(":"))
    return causes


def _continuation(lines: Iterable[str]) -> Iterable[str]:
    """The further lines of a message: indented ones, as pydantic writes them."""
    for line in lines:
        if not line.startswith("  ") or line.lstrip().startswith(("File ", "For further information")):
            return
        yield line.strip()


def explain(
    error: BaseException,
    lines: Sequence[str],
    *,
    oom_killed: bool,
    fallback: Reason = Reason.ENGINE_START_FAILED,
) -> EngineStartError:
    """Say why an engine did not start, or died.

    Args:
        error: What the engine raised in this process.
        lines: What it and its processes printed.
        oom_killed: Whether the kernel has killed a process of this container for want of memory meanwhile.
        fallback: The reason, where no rule knows better.
    """
    cause = _described(error)
    if _WRAPPERS.search(cause):
        printed = [text for text in printed_causes(lines) if not _WRAPPERS.search(text)]
        if not printed:
            return _killed(cause, lines, oom_killed=oom_killed)
        cause = printed[-1]
    for rule in RULES:
        if rule.pattern.search(cause):
            return EngineStartError(rule.reason, f"{_short(cause)}; {rule.cure}")
    return EngineStartError(fallback, f"{_short(cause)}; the replica's log has the whole story")


def _killed(cause: str, lines: Sequence[str], *, oom_killed: bool) -> EngineStartError:
    """A process that died without a traceback was ended by a signal."""
    if oom_killed:
        return EngineStartError(
            Reason.OUT_OF_MEMORY,
            "the kernel killed a process of the engine at the container's memory limit: "
            "raise spec.resources.limits.memory, or lower max-model-len",
        )
    exit_code = _EXIT_CODE.search("\n".join((cause, *lines)))
    signal = -int(exit_code[1]) if exit_code else 0
    what = f"a process of the engine was ended by signal {signal}" if signal > 0 else "a process of the engine died"
    return EngineStartError(
        Reason.OUT_OF_MEMORY if signal == _SIGKILL else Reason.ENGINE_START_FAILED,
        f"{what} and left no traceback; {_SIGNALS.get(signal, 'the replica log has what it printed')}",
    )


def _described(error: BaseException) -> str:
    text = re.sub(r"\s*For further information visit \S+", "", str(error))
    return " ".join(f"{type(error).__name__}: {text}".split()).rstrip(": ")


def _short(text: str) -> str:
    """Keep the first sentences; what follows them is advice for other set-ups and lists of everything that exists."""
    text = _WRAPPED.sub("", text)
    kept, *rest = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    for sentence in rest:
        if len(kept) + len(sentence) > _LONG_ENOUGH:
            break
        kept += f" {sentence}"
    return (kept if len(kept) <= _LONGEST else f"{kept[:_LONGEST]}…").rstrip(". ")
