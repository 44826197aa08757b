"""Reports on studies, built from their records alone: contrasts with verdicts, tables, figures, sample galleries."""

from importlib import import_module
from typing import Any

_FILES = {
    "frame": "reports.frames",
    "verdicts": "reports.frames",
    "Record": "reports.records.record",
    "Study": "reports.records.study",
    "build_report": "reports.page.report",
    "read_record": "reports.records.record",
    "read_study": "reports.records.study",
}
__all__ = list(_FILES)


def __getattr__(name: str) -> Any:
    """Public names, loaded on first use so that importing the package stays quick."""
    if name in _FILES:
        return getattr(import_module(_FILES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
