"""Reports on studies, built from their records alone: contrasts with verdicts, tables, figures, sample galleries."""

from __future__ import annotations

from typing import Any

__all__ = ["Record", "RecordError", "Study", "build_report", "read_record", "read_study"]


def __getattr__(name: str) -> Any:
    """Public names, loaded on first use so that importing the package stays quick."""
    if name == "build_report":
        from reports.build import build_report

        return build_report
    if name in __all__:
        from reports import records

        return getattr(records, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
