"""The operator's master key, from which the tokens of every LLMDeployment derive: made once, then only read."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from typing import Final

from sundog_operator.core.names import MANAGED_BY, MANAGED_BY_LABEL, Manifest
from sundog_operator.kube.client import Client
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.listing import CannotStart
from sundog_operator.kube.resources import SECRET

NAME: Final = "sundog-master-key"
KEY: Final = "key"
BYTES: Final = 32
_LOOK_SECONDS: Final = 1.0
_LEAST_BYTES: Final = 16
"""Below that a key that a person made could be guessed."""


async def read(client: Client, namespace: str) -> bytes:
    """Read the key, and wait for it where whoever leads has yet to make it.

    Raises:
        CannotStart: the Secret holds no usable key.
        KubeError: the API server could not be reached, refused or had a fault.
    """
    while (found := await client.get(SECRET.kind, namespace=namespace, name=NAME)) is None:  # noqa: ASYNC110 another process makes it
        await asyncio.sleep(_LOOK_SECONDS)
    return _decode(found, namespace)


async def read_or_create(client: Client, namespace: str) -> bytes:
    """Read the key, or make it where there is none. Two operators that start at once end with the same.

    Raises:
        CannotStart: the Secret holds no usable key, or may not be read.
        KubeError: the API server could not be reached or had a fault.
        NotLeading: this process may not write.
    """
    try:
        found = await client.get(SECRET.kind, namespace=namespace, name=NAME)
        if found is None:
            # None again: another operator was quicker, and its key is the one.
            found = await client.create(_manifest(namespace)) or await client.get(
                SECRET.kind, namespace=namespace, name=NAME
            )
    except KubeError as error:
        if error.forbidden:
            raise CannotStart(
                f"The operator may not read and create its Secret {namespace}/{NAME}: {error}. "
                "Grant 'create' on secrets and 'get' on this one in its own namespace"
            ) from error
        raise
    return _decode(found, namespace)


def _manifest(namespace: str) -> Manifest:
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {"name": NAME, "namespace": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "type": "Opaque",
        "immutable": True,
        "data": {KEY: base64.b64encode(secrets.token_bytes(BYTES)).decode()},
    }


def _decode(found: Manifest | None, namespace: str) -> bytes:
    try:
        key = base64.b64decode(((found or {}).get("data") or {}).get(KEY, ""), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < _LEAST_BYTES:
        raise CannotStart(
            f"The Secret {namespace}/{NAME} has no key '{KEY}' of at least {_LEAST_BYTES} bytes. Put back what it had; "
            "deleting the Secret makes a new key, and with it every replica starts anew"
        )
    return key
