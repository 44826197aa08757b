"""The regression check: a fixed tiny recipe, trained and judged in under a minute, against a committed record."""
