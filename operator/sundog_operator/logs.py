"""Logs: one JSON object per line on standard error, those of kopf and of the libraries too."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

import structlog


def configure(level: str) -> None:
    """Send every log line through structlog.

    Args:
        level: `DEBUG`, `INFO`, `WARNING`, …; libraries are heard from `WARNING` on, or from `DEBUG` with it.

    Raises:
        ValueError: there is no such level.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=())],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    handler.addFilter(_not_each_try)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level if level == "DEBUG" else logging.WARNING)
    logging.getLogger("sundog_operator").setLevel(level)
    sys.excepthook = _tell_fault


def _tell_fault(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """Log what ended the process, on one line as everything else."""
    structlog.get_logger("sundog_operator").critical(
        f"The operator ended by a fault: {fault or kind.__name__}", exc_info=(kind, fault, trace)
    )


def _not_each_try(record: logging.LogRecord) -> bool:
    # kopf logs each try while the API server is away; `handlers` tells when a watch breaks and when it is back.
    return not (record.name.startswith("kopf.") and str(record.msg).startswith("Request attempt #"))
