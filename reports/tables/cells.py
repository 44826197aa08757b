"""Cells of CSV files as text: a spreadsheet takes a text that begins like a formula for one, and runs it."""

from typing import Any

_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


def plain(value: Any) -> Any:
    """The cell's value; a text that a spreadsheet would run has an apostrophe before it, which shows it as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_BEGINNINGS) else value
