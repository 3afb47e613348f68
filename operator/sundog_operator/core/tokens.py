"""Tokens of one LLMDeployment, derived from the operator's master key: nothing to store, nothing to read back."""

from __future__ import annotations

import hmac


def ray_token(master_key: bytes, uid: str) -> str:
    """Bearer token of the heads' REST API and of Ray's own connections, 64 hexadecimal digits."""
    return _derive(master_key, f"ray:{uid}")


def replica_token(master_key: bytes, uid: str) -> str:
    """What the router shows to a replica, 64 hexadecimal digits."""
    return _derive(master_key, f"replica:{uid}")


def _derive(master_key: bytes, purpose: str) -> str:
    return hmac.new(master_key, purpose.encode(), "sha256").hexdigest()
