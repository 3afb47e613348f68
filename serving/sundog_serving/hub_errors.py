"""What may go wrong between a replica and the hub, each in one sentence that says what to do."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub import constants, errors

from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_WRITING: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# By name: the library has changed its HTTP client between releases, and wraps what the client says.
_NOT_REACHED: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "ProxyError", "OfflineModeIsEnabled", "gaierror", "ConnectionRefusedError"}
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was to be downloaded, and where to."""

    repository: str
    revision: str
    cache: Path


def explain(error: BaseException, wanted: Wanted) -> EngineStartError:
    """Turn whatever a download raised into a reason and a sentence."""
    if isinstance(error, errors.DryRunError) and error.__cause__ is not None:
        error = error.__cause__  # the library says only that it could not ask; why, stands in the cause
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error, wanted)
    hub, repository = constants.ENDPOINT, wanted.repository
    number = error.errno if isinstance(error, OSError) else None
    if number in _NO_ROOM:
        sentence = (
            f"the cache {wanted.cache} has no room for {repository} ({_told(error)}): enlarge spec.model.cache's volume"
        )
    elif number in _NO_WRITING:
        sentence = (
            f"uid {os.geteuid()} may not write to the cache {wanted.cache}: "
            "set fsGroup in the pod template, or use another volume in spec.model.cache"
        )
    elif _not_reached(error):
        sentence = (
            f"{hub} cannot be reached for {repository} ({_told(error)}): allow egress from the worker pods, "
            "set HF_ENDPOINT in spec.engine.env to a mirror, or put the model into a claim and use pvc://"
        )
    else:
        sentence = (
            f"downloading {repository} from {hub} broke off ({_told(error)}): the next try keeps what came in whole"
        )
    return EngineStartError(Reason.MODEL_DOWNLOAD_FAILED, sentence)


def _refused(error: errors.HfHubHTTPError, wanted: Wanted) -> EngineStartError:
    hub, repository = constants.ENDPOINT, wanted.repository
    status = error.response.status_code
    token = "the token of spec.model.tokenSecretRef" if os.environ.get("HF_TOKEN") else "a request without a token"
    reason = Reason.MODEL_DOWNLOAD_FAILED
    if isinstance(error, errors.GatedRepoError):
        sentence = (
            f"{repository} is gated and {hub} refused {token} with {status}: accept the model's conditions "
            "with an account of yours, and name a token of that account in spec.model.tokenSecretRef"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        reason = Reason.MODEL_NOT_FOUND
        sentence = (
            f"{repository} has no revision {wanted.revision!r}: correct spec.model.revision (a commit, tag or branch)"
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        reason = Reason.MODEL_NOT_FOUND
        sentence = (
            f"{hub} has no {repository}, or does not show it to {token} (status {status}): "
            "correct spec.model.uri, or name a token that may read it in spec.model.tokenSecretRef"
        )
    elif status in {401, 403}:
        sentence = (
            f"{hub} refused {token} with {status} for {repository}: "
            "renew the token, or give it the right to read this model"
        )
    else:
        sentence = f"{hub} answered {status} for {repository}: if this lasts, put the model into a claim and use pvc://"
    return EngineStartError(reason, sentence)


def _not_reached(error: BaseException) -> bool:
    names: set[str] = set()
    link: BaseException | None = error
    while link is not None:
        names |= {kind.__name__ for kind in type(link).__mro__}
        link = link.__cause__ or link.__context__
    return bool(names & _NOT_REACHED)


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}".rstrip(": ")
