"""Whether an object as read already is what we would apply.

The server adds defaults and status, other managers add fields: only what we would write counts.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from sundog_operator.core import names
from sundog_operator.core.names import Manifest

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_AMOUNTS = {"requests", "limits", "cpu", "memory", "storage", "sizeLimit", "averageValue", "tolerance"}
"""Fields below which text may be a quantity, of which there are several spellings."""


def with_applied_hash(manifest: Manifest) -> Manifest:
    """Add the hash of the manifest, so that a later pass knows what was applied, fields that went away included."""
    content = json.dumps(manifest, sort_keys=True)
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        names.APPLIED_HASH_ANNOTATION: names.short_hash(content),
    }
    return {**manifest, "metadata": metadata}


def applied_hash(manifest: Manifest) -> str | None:
    """Read the hash that `with_applied_hash` wrote."""
    value = manifest["metadata"].get("annotations", {}).get(names.APPLIED_HASH_ANNOTATION)
    return None if value is None else str(value)


def is_applied(wanted: Manifest, found: Manifest) -> bool:
    """Whether applying `wanted` (with its hash) over `found` would change nothing."""
    return _covers(found, wanted, amounts=False)


def _covers(found: Any, wanted: Any, *, amounts: bool) -> bool:
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return not wanted and found is None  # the server drops empty maps
        return all(_covers(found.get(key), value, amounts=amounts or key in _AMOUNTS) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return not wanted and found is None
        return _covers_list(found, wanted)
    if found == wanted:
        return True
    return amounts and quantity(found) is not None and quantity(found) == quantity(wanted)


def _covers_list(found: list[Any], wanted: list[Any]) -> bool:
    if wanted and all(isinstance(element, dict) and "name" in element for element in wanted):
        by_name = {element.get("name"): element for element in found if isinstance(element, dict)}
        return all(_covers(by_name.get(element["name"]), element, amounts=False) for element in wanted)
    return len(found) == len(wanted) and all(_covers(a, b, amounts=False) for a, b in zip(found, wanted, strict=True))


def quantity(value: Any) -> Decimal | None:
    """Read a Kubernetes quantity ("500m", "1Gi", 2, "1e3"); None where it is none."""
    text = str(value)
    number = text.rstrip("KMGTPEinumk")
    suffix = text[len(number) :]
    try:
        return Decimal(number) * _SUFFIXES[suffix]
    except (InvalidOperation, KeyError):
        return None
