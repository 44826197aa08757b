"""Which numbers a setting may hold, said once as an interval."""

import math
from typing import Any

WORDS = {"[1, inf)": "must be at least 1", "(0, inf)": "must be above 0", "[0, inf)": "must not be negative"}


def require(config: Any, interval: str, *names: str) -> None:
    """ValueError for the first of the fields that does not lie in the interval, as "[0, 1)"; an infinite end is open,
    so that no infinity is taken, and NaN lies nowhere."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name in names:
        value = getattr(config, name)
        is_above = value > low or (interval[0] == "[" and value == low)
        is_below = value < high or (interval[-1] == "]" and value == high)
        if not (is_above and is_below):
            said = WORDS.get(interval, f"must lie in {interval}") if math.isfinite(value) else "must be a finite number"
            raise ValueError(f"{name} is {value}, {said}")
