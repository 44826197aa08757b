"""Numbers that a setting may hold: the ends of an interval, and what is no number."""

from dataclasses import dataclass
from math import inf, nan

import pytest

from lightgen.disk.bounds import require


@dataclass
class Config:
    rate: float


@pytest.mark.parametrize(("interval", "taken", "refused"), [
    ("[1, inf)", (1, 10**18), (0, -1, inf, nan)),
    ("(0, inf)", (1e-300, 5.0), (0, -0.1, inf, nan)),
    ("[0, 1)", (0, 0.999), (1, -1e-9, nan)),
    ("[0, 1]", (0, 1), (1.0001, -inf)),
    ("(0, 1)", (0.5,), (0, 1)),
    ("[-1000, 1000]", (-1000, 0, 1000), (1001, nan)),
])  # fmt: skip
def test_an_end_belongs_where_its_bracket_says(interval, taken, refused):
    for value in taken:
        require(Config(value), interval, "rate")
    for value in refused:
        with pytest.raises(ValueError, match=r"^rate is "):
            require(Config(value), interval, "rate")


def test_the_line_says_what_is_allowed():
    said = {"[1, inf)": "must be at least 1", "[0, 1)": r"must lie in \[0, 1\)", "(0, inf)": "must be above 0"}
    for interval, words in said.items():
        with pytest.raises(ValueError, match=f"^rate is -1, {words}$"):
            require(Config(-1), interval, "rate")
    with pytest.raises(ValueError, match="rate is nan, must be a finite number"):
        require(Config(nan), "[0, 1)", "rate")
