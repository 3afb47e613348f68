"""The options that commands share, each said once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sundog_operator.core import names


class Output(StrEnum):
    """For programs."""

    JSON = "json"
    YAML = "yaml"


class Engine(StrEnum):
    """What generates the tokens."""

    VLLM = "vllm"
    FAKE = "fake"


class Component(StrEnum):
    """Pods of an LLMDeployment."""

    WORKER = names.WORKER
    HEAD = names.HEAD
    ROUTER = names.ROUTER


class Tool(StrEnum):
    """What sends the load."""

    AUTO = "auto"
    BUILTIN = "builtin"
    GUIDELLM = "guidellm"
    VLLM = "vllm"


Context = Annotated[str | None, typer.Option("--context", metavar="CONTEXT", help="Of the kubeconfig.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="By default the context's own.")
]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look into all namespaces.")]
Form = Annotated[Output | None, typer.Option("--output", "-o", help="Write for programs.")]
File = Annotated[Path, typer.Option("--filename", "-f", metavar="FILE", help="YAML or JSON; - is the standard input.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the LLMDeployment.")]
URL = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="Base URL with /v1, instead of finding the way by itself.")
]
