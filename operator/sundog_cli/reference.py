"""The reference of the commands in Markdown: the help that each prints, as it prints it.

python -m sundog_cli.reference                    print it
python -m sundog_cli.reference --write PATH ...   write it
python -m sundog_cli.reference --check PATH ...   fail where a file is not what the commands say
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer.main

from sundog_cli.app import NAME, app
from sundog_operator.api.generated import run

_WIDTH = 100
_HEAD = f"""# {NAME}

<!-- Made from operator/sundog_cli by `python -m sundog_cli.reference`; change it there. -->

A plugin of kubectl: `pip install '.[cli]'` puts `kubectl-sundog` into PATH, where kubectl finds it. It uses the
kubeconfig as kubectl does (`KUBECONFIG`, `--context`, `-n`) and has the rights that you have.

| exit code | meaning |
|---|---|
| 0 | it is done, and all is well |
| 1 | what was asked about is not as it should be: `doctor`, `deploy --wait`, `bench`, `diff` |
| 2 | it could not be done; one sentence says why |
| 130 | interrupted |
"""


def reference() -> str:
    """Return the page."""
    return "\n".join((_HEAD, *_sections()))


def _sections() -> Iterator[str]:
    group = typer.main.get_command(app)
    with group.make_context(
        NAME, [], resilient_parsing=True, max_content_width=_WIDTH, terminal_width=_WIDTH
    ) as context:
        yield f"```\n{group.get_help(context).strip()}\n```\n"
        for name in group.list_commands(context):  # type: ignore[attr-defined]
            command = group.get_command(context, name)  # type: ignore[attr-defined]
            about = f"{NAME} {name}"
            with command.make_context(name, [], parent=context, resilient_parsing=True) as own:
                yield f"## {about}\n\n```\n{command.get_help(own).strip()}\n```\n"


if __name__ == "__main__":
    sys.exit(run(reference(), module="sundog_cli.reference", arguments=sys.argv[1:]))
