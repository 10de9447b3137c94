"""Metrics and logs. All metrics are declared in ``libs/adapters/metrics.py``; the names are API (streaming.md §6)."""

import logging

import structlog

from libs.adapters.metrics import (
    DEAD_LETTER_REASONS,
    DEGRADED_REASONS,
    LOSS_PARTS,
    OUTCOMES,
    REJECT_REASONS,
    HttpMetrics,
    IngestMetrics,
    LearnerMetrics,
    ServingMetrics,
)

__all__ = [
    "DEAD_LETTER_REASONS",
    "DEGRADED_REASONS",
    "LOSS_PARTS",
    "OUTCOMES",
    "REJECT_REASONS",
    "HttpMetrics",
    "IngestMetrics",
    "LearnerMetrics",
    "ServingMetrics",
    "configure_logging",
]


def configure_logging(level: str) -> None:
    """Send structlog and the standard library's loggers to stderr as JSON lines, at ``level`` and above."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=number, force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )
