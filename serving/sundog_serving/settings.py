"""The arguments of the Serve application, as the operator sends them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sundog_serving.contract import Reason
from sundog_serving.errors import EngineStartError

ENGINES = ("vllm", "fake")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model, and where it is."""

    uri: str
    path: Path | None
    """Folder in a mounted claim; None where the replica downloads it."""
    revision: str | None
    name: str
    """The "model" of requests."""

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """Read a model, or an adapter, as the operator writes it.

        Raises:
            KeyError, TypeError: It is not what the operator writes.
        """
        return cls(
            uri=args["uri"],
            path=Path(args["path"]) if args.get("path") else None,
            revision=args.get("revision"),
            name=args["name"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRASettings:
    """What an engine must know of adapters before it starts."""

    max_rank: int
    max_adapters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one replica serves, and how."""

    engine: str
    model: Model
    engine_args: Mapping[str, Any]
    """As a person wrote them: kebab or snake case, values of any JSON type."""
    request_timeout_seconds: float
    lora: LoRASettings | None = None
    """None: no adapter can be loaded."""

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """Read the application's ``args``.

        Raises:
            EngineStartError: Something is missing or of the wrong kind. The operator and this package are then of
                different releases, since a person cannot write these arguments.
        """
        try:
            lora = args.get("lora")
            settings = cls(
                engine=args["engine"],
                model=Model.from_args(args["model"]),
                engine_args=dict(args.get("engine_args") or {}),
                request_timeout_seconds=float(args.get("request_timeout_seconds", 600)),
                lora=LoRASettings(max_rank=lora["max_rank"], max_adapters=lora["max_adapters"]) if lora else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EngineStartError(
                Reason.ENGINE_START_FAILED,
                f"the Serve application's arguments cannot be read ({type(error).__name__}: {error}): "
                "operator and serving image must be of the same release",
            ) from error
        if settings.engine not in ENGINES:
            raise EngineStartError(
                Reason.ENGINE_START_FAILED,
                f"there is no engine {settings.engine!r} in this serving image; it has {' and '.join(ENGINES)}",
            )
        return settings
