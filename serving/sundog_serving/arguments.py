"""Engine arguments, from what a person wrote to what the engine's own command line understands.

Names and values go through the engine's own parser, so ``kv-cache-memory-bytes: 64M`` means here what it means on its
command line, and a name that this very version does not have is refused before the engine starts.
"""

import argparse
import difflib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError

_WHERE = "spec.engine.args"


def parse(
    parser: argparse.ArgumentParser, engine_args: Mapping[str, Any], *, reserved: Mapping[str, str], engine: str
) -> argparse.Namespace:
    """Check names and values against a parser's own options.

    Args:
        parser: The engine's parser. Its ``error`` method is replaced: it must not end the process.
        engine_args: Arguments in kebab or snake case; the value null means the engine's default.
        reserved: Names that Sundog sets itself, each with the place where a person says it instead.
        engine: Name and version of the engine, for messages.

    Raises:
        EngineStartError: EngineArgumentInvalid, naming the argument, and the nearest name where there is none.
    """
    options = _options(parser)
    argv: list[str] = []
    for written, value in engine_args.items():
        name = written.strip().lstrip("-").replace("_", "-")
        if cure := reserved.get(name):
            raise _invalid(f"{_WHERE}.{written} is set by Sundog: {cure}")
        action = options.get(name) or options.get(name.partition(".")[0])
        if action is None:
            raise _invalid(f"{_WHERE}.{written}: {engine} has no such argument{_nearest(name, options)}")
        if value is not None:
            argv += _as_argv(written, name, value, action=action, options=options)

    def refuse(message: str) -> NoReturn:
        # argparse says: argument --max-model-len/-m: invalid int value: 'many'
        argument, colon, problem = message.removeprefix("argument ").partition(": ")
        name = max(argument.split("/"), key=len).lstrip("-")
        raise _invalid(f"{_WHERE}.{name}: {problem}" if colon else f"{_WHERE}: {message}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(argv)


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Long options by name without dashes; the negations (``--no-…``) are spelled ``name: false`` here."""
    # argparse has no public way to list them; this attribute is as old as argparse itself.
    return {
        option.removeprefix("--"): action
        for option, action in parser._option_string_actions.items()  # noqa: SLF001
        if option.startswith("--") and option != "--help" and not _is_negation(option, action)
    }


def _is_negation(option: str, action: argparse.Action) -> bool:
    return isinstance(action, argparse.BooleanOptionalAction) and option.startswith("--no-")


def _as_argv(
    written: str, name: str, value: Any, *, action: argparse.Action, options: Mapping[str, argparse.Action]
) -> list[str]:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise _invalid(f"{_WHERE}.{written}: expects true or false, not {json.dumps(value)}")
        if value:
            return [f"--{name}"]
        return [f"--no-{name}"] if isinstance(options[name], argparse.BooleanOptionalAction) else []
    if isinstance(value, list) and action.nargs is not None:
        return [f"--{name}", *map(_as_text, value)]
    return [f"--{name}={_as_text(value)}"]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _nearest(name: str, options: Mapping[str, argparse.Action]) -> str:
    near = difflib.get_close_matches(name, options, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _invalid(sentence: str) -> EngineStartError:
    return EngineStartError(Reason.ENGINE_ARGUMENT_INVALID, sentence)
