"""Manifests of LLMDeployments: made from what stands on a command line, or read from a file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from sundog_cli.errors import Trouble
from sundog_operator.api.types import LLMDeployment
from sundog_operator.api.uri import parse_model_uri
from sundog_operator.core import names
from sundog_operator.core.names import Manifest

GPU: Final = "nvidia.com/gpu"
_WEIGHTS: Final = re.compile(r"[^a-z0-9]+")


def make(
    model: str,
    *,
    name: str | None,
    namespace: str,
    engine: str,
    gpus: int | None,
    replicas: int | None,
    arguments: Sequence[str],
) -> Manifest:
    """Make a manifest with no more in it than was asked for, so that every other field keeps its default.

    Args:
        model: hf://org/name, bare org/name or pvc://claim/path.
        name: of the LLMDeployment; None: after the model.
        namespace: where it goes.
        engine: vllm or fake.
        gpus: of each replica; None: one for vllm.
        replicas: None: not said, so that an autoscaler may say it.
        arguments: of the engine, each NAME=VALUE.

    Raises:
        Trouble: something of it cannot be used.
    """
    spec: Manifest = {"model": {"uri": model}}
    if replicas is not None:
        spec["replicas"] = replicas
    if engine != "vllm" or arguments:
        spec["engine"] = {"name": engine}
    if arguments:
        spec["engine"]["args"] = dict(_argument(each) for each in arguments)
    devices = (1 if engine == "vllm" else 0) if gpus is None else gpus
    if devices:
        spec["resources"] = {"limits": {GPU: str(devices)}}
    if devices > 1:
        spec["parallelism"] = {"tensor": devices}
    manifest: Manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name or _name(model), "namespace": namespace},
        "spec": spec,
    }
    check(manifest, where="")
    return manifest


def _argument(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Trouble(f"--arg {text} is not NAME=VALUE: write, for example, --arg max-model-len=8192.")
    try:
        return key.lstrip("-"), yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise Trouble(f"--arg {text}: its value is no YAML ({_first_line(error)}).") from error


def _name(model: str) -> str:
    """Name it after the model: a DNS label, short enough for all that is made from it."""
    try:
        location = parse_model_uri(model)
    except ValueError as error:
        raise Trouble(f"{error}.") from None
    last = (location.path or location.authority).rpartition("/")[2]
    name = _WEIGHTS.sub("-", last.lower()).strip("-")[: names.MAX_NAME_LENGTH].strip("-")
    if not name or not name[0].isalpha():
        name = f"model-{name}"[: names.MAX_NAME_LENGTH].strip("-")
    return name


def check(manifest: Manifest, *, where: str) -> None:
    """Check a manifest by the models.

    Raises:
        Trouble: a field cannot be used; the message names it.
    """
    try:
        LLMDeployment.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        place = f"{where}: " if where else ""
        if first["type"] == "extra_forbidden":
            said = "there is no such field; kubectl explain llmdeployment.spec lists them"
        raise Trouble(f"{place}{path}: {said}.") from None


def load(file: Path) -> list[Manifest]:
    """Read the LLMDeployments of a YAML or JSON file (`-`: the standard input); other objects in it are passed over.

    Raises:
        Trouble: it cannot be read, or has none in it.
    """
    where = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        raise Trouble(f"{where} is no YAML: {_first_line(error)}.") from error
    found = []
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise Trouble(f"{where} has something in it that is no Kubernetes object: each needs apiVersion and kind.")
        items = document.get("items", []) if document["kind"] == "List" else [document]
        found += [item for item in items if item.get("kind") == names.KIND]
    if not found:
        raise Trouble(f"{where} has no {names.KIND} in it.")
    for manifest in found:
        if manifest.get("apiVersion") != names.API_VERSION:
            raise Trouble(
                f"{where}: apiVersion is {manifest.get('apiVersion')!r}; this release knows {names.API_VERSION}."
            )
        if not isinstance(manifest.get("metadata"), dict) or not manifest["metadata"].get("name"):
            raise Trouble(f"{where}: metadata.name is missing.")
        check(manifest, where=where)
    return found


def _first_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


class _Dumper(yaml.SafeDumper):
    """Text of several lines stands as it is, not in quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
_Dumper.add_multi_representer(str, _text)  # enumerations
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def as_yaml(*documents: Any) -> str:
    """Write objects as people do: fields in their order, no references."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def as_json(value: Any) -> str:
    """Write a value for programs."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
