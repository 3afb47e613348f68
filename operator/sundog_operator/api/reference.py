"""The reference of LLMDeployment in Markdown, from the same schema as the CRD.

python -m sundog_operator.api.reference                    print it
python -m sundog_operator.api.reference --write PATH ...   write it
python -m sundog_operator.api.reference --check PATH ...   fail where a file is not what the models say
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from sundog_operator.api.crd import resource_schema
from sundog_operator.api.engine_arguments import refused_arguments
from sundog_operator.api.environment_variables import RESERVED, RESERVED_PREFIXES
from sundog_operator.api.generated import run
from sundog_operator.api.rules import KEYWORD
from sundog_operator.api.schema import Schema
from sundog_operator.api.types import GROUP, KIND, VERSION

_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
_HEAD = f"""# {KIND}

<!-- Made from operator/sundog_operator/api by `python -m sundog_operator.api.reference`; change it there. -->

`{GROUP}/{VERSION}`, namespaced, short name `llmdeploy`. {{description}}

```yaml
apiVersion: {GROUP}/{VERSION}
kind: {KIND}
metadata:
  name: qwen3
spec:
  model:
    uri: hf://Qwen/Qwen3-0.6B
```

A field in **bold** must be given. What is said under *Refused* is refused by the API server at once, with the sentence
that stands here. `kubectl explain llmdeployment.spec` says the same as this page, but for what a change replaces: that
stands beside each field of `spec`, and holds for all that is below it. Engines go one after the other and routers too,
each when its requests have ended ([what is a change](../rollouts.md#what-is-a-change)).
"""
# Here and not in the models' docstrings: those stand in the CRD too, which has hardly any room left. `core` knows what
# forms a revision and what routers are made from; tests/unit/core/test_changes.py holds this table to both.
_REPLACES = {
    "replicas": "nothing",
    "suspend": "the routers",
    "requestTimeoutSeconds": "every engine and the routers",
    "model": "every engine; nothing for `lora.adapters`",
    "engine": "every engine",
    "parallelism": "every engine",
    "resources": "every engine",
    "nodeSelector": "every engine",
    "tolerations": "every engine and the routers",
    "podTemplate": "every engine; the routers too for `spec.imagePullSecrets`",
    "autoscaling": "nothing",
    "rollout": "nothing, unless `revision` names another one",
    "slo": "nothing",
    "router": "the routers; nothing for `replicas`",
    "service": "nothing",
    "ray": "every engine",
}


def reference() -> str:
    """Return the page."""
    schema = resource_schema()
    parts = [_HEAD.format(description=schema["description"]), *_refused(schema)]
    for top in ("spec", "status"):
        parts += _sections(top, schema["properties"][top])
    parts += _tables_of_names()
    return "\n".join(parts)


def _sections(path: str, schema: Schema) -> Iterator[str]:
    yield f"## {path}\n"
    yield f"{schema['description']}\n"
    replaces = _REPLACES if path == "spec" else {}
    more = "a change replaces | " if replaces else ""
    yield f"| field | type | default | {more}|\n|---|---|---|{'---|' if more else ''}---|"
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        more = f"{replaces[name]} | " if replaces else ""
        about = _cell(field.get("description", ""))
        yield f"| {shown} | {_cell(_type(field))} | {_default(field)} | {more}{about} |"
    yield ""
    yield from _refused(schema)
    for name, field in schema["properties"].items():
        if _has_section(field):
            yield from _sections(f"{path}.{name}", field)
        elif _has_section(field.get("items", {})):
            yield from _sections(f"{path}.{name}[]", field["items"])


def _has_section(schema: Schema) -> bool:
    return "properties" in schema and _UNKNOWN not in schema


def _refused(schema: Schema) -> Iterator[str]:
    """List the messages of the rules of an object, and of its fields that have no section of their own."""
    messages = [(rule.get("fieldPath", "").lstrip("."), rule["message"]) for rule in schema.get(KEYWORD, [])]
    for name, field in schema.get("properties", {}).items():
        if not _has_section(field):
            leaves = (field, field.get("additionalProperties", {}))
            messages += [(name, rule["message"]) for leaf in leaves for rule in leaf.get(KEYWORD, [])]
    if messages:
        yield "*Refused*\n"
        yield from (f"- `{field}`: {_cell(said)}" if field else f"- {_cell(said)}" for field, said in messages)
        yield ""


def _type(schema: Schema) -> str:
    kind = str(schema.get("type", "any"))
    if "enum" in schema:
        kind = " or ".join(f"`{value}`" for value in schema["enum"])
    elif schema.get("x-kubernetes-int-or-string"):
        kind = "quantity"
    elif kind == "array":
        kind = f"list of {_type(schema['items'])}, at most {schema['maxItems']}"
    elif "additionalProperties" in schema:
        kind = f"map to {_type(schema['additionalProperties'])}, at most {schema['maxProperties']}"
    elif "minimum" in schema:
        kind += f" {schema['minimum']} to {schema['maximum']}"
    elif "maxLength" in schema:
        kind += f" of at most {schema['maxLength']} characters"
    return kind


def _default(schema: Schema) -> str:
    # An empty map or list, or an object that is filled field by field, is no news.
    default = schema.get("default")
    return "" if default in (None, "", {}, []) or "properties" in schema else f"`{json.dumps(default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _tables_of_names() -> Iterator[str]:
    yield "## Arguments of the engine that are refused\n"
    yield "In kebab and in snake case; the last ones by the operator, which then says so in the condition `Ready`.\n"
    yield "| argument | because it is set by Sundog |\n|---|---|"
    yield from (f"| `{name}` | {cure} |" for name, cure in refused_arguments())
    yield "\n## Environment variables that are refused\n"
    yield "| variable | because it is set by Sundog |\n|---|---|"
    yield from (f"| `{prefix}…` | the same on every node |" for prefix in RESERVED_PREFIXES)
    yield from (f"| `{name}` | {why} |" for name, why in RESERVED.items())
    yield ""


if __name__ == "__main__":
    sys.exit(run(reference(), module="sundog_operator.api.reference", arguments=sys.argv[1:]))
