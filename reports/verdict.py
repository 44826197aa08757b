"""What a contrast says, from its 95 % interval and its smallest effect of interest alone:

    supported      the whole interval lies at or above the smallest effect of interest
    refuted        the whole interval lies below it: an effect that matters is ruled out
    inconclusive   anything else, a smoke run, or numbers that may not be compared
    seen on one seed (or two), settles nothing

Where all variants of a contrast score next to 0, or to 1, it is inconclusive whatever its interval.

One contrast of a study is primary. The others are corrected together (Holm): such a one is supported or refuted only
where the adjusted p value, that the true difference is exactly the smallest effect, is at most 0.05 too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.contrasts import Difference, difference
from reports.inference import LEVEL, holm
from reports.records.record import is_geneval
from reports.records.study import Contrast, Study
from reports.words import interval

MIN_SEEDS = 3
UNSETTLED = {1: "seen on one seed, settles nothing", 2: "seen on two seeds, settles nothing"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A contrast with its outcome and the sentence that says why. P values need three seeds; those of contrasts that
    are not primary are adjusted."""

    contrast: Contrast
    difference: Difference
    outcome: str
    sentence: str
    reason: str = ""  # the sentence without what the design could have found
    detectable: float | None = None  # the true difference that would be supported four times in five
    p_zero: float | None = None  # that the true difference is 0
    p_smallest: float | None = None  # that it is the smallest effect of interest

    @property
    def kind(self) -> str:
        """The outcome in one word."""
        return "unsettled" if self.outcome in UNSETTLED.values() else self.outcome

    def line(self) -> str:
        """The numbers alone, in one line."""
        found = self.difference
        prompts = f"{found.prompts} prompts, " if found.prompts else ""
        spread = interval(found.ci, "{:+.3f}") or "no interval"
        numbers = f"{found.effect:+.3f} {spread}, {prompts}seeds {', '.join(map(str, found.seeds))}"
        return f"{' minus '.join(self.contrast.side_names)}, {self.contrast.metric}: {numbers}"


def verdicts(study: Study) -> list[Verdict]:
    """Those of the study's contrasts, in its order."""
    found = {contrast: difference(study, contrast) for contrast in study.contrasts}
    tested = [contrast for contrast in found if _is_testable(study, found[contrast])]
    zero = _adjusted({contrast: _p_value(found[contrast], 0.0) for contrast in tested})
    smallest = _adjusted({contrast: _p_value(found[contrast], contrast.smallest_effect) for contrast in tested})
    return [_judged(study, contrast, found[contrast], zero, smallest) for contrast in found]


def between(study: Study, a: str, b: str, metric: str) -> Verdict:
    """Variant `a` minus variant `b`, asked by a reader and not by the study; ValueError where there is no number."""
    known = [variant.name for variant in study.variants]
    for name in (a, b):
        if name not in known:
            raise ValueError(f"{name!r} is no variant of {study.name}; valid: {', '.join(known)}")
    claim = f"{a} is above {b}"
    contrast = Contrast(name="", label="", sides=((a,), (b,)), metric=metric, smallest_effect=0.0, claim=claim)
    found = difference(study, contrast)
    if found.effect is None:
        raise ValueError(found.obstacle)
    return _judged(study, contrast, found, {contrast: _p_value(found, 0.0)}, {contrast: _p_value(found, 0.0)})


PValues = dict[Contrast, float | None]


def _is_testable(study: Study, found: Difference) -> bool:
    return found.ci is not None and len(found.seeds) >= MIN_SEEDS and study.scale != "smoke"


def _p_value(found: Difference, null: float) -> float | None:
    return found.inference.p_value(null) if found.inference else None


def _adjusted(given: PValues) -> PValues:
    """The primary's as it is, the others' by Holm."""
    others = {contrast: p for contrast, p in given.items() if not contrast.is_primary and p is not None}
    return {**given, **dict(zip(others, holm(list(others.values()))))}


def _judged(study: Study, contrast: Contrast, found: Difference, zero: PValues, smallest: PValues) -> Verdict:
    if found.inference is None:
        return Verdict(contrast=contrast, difference=found, outcome="inconclusive", sentence=found.obstacle,
                       reason=found.obstacle)  # fmt: skip
    p = smallest.get(contrast)
    outcome, why = _outcome(study, contrast, found, p)
    detectable = found.inference.detectable(contrast.smallest_effect) if len(found.seeds) >= MIN_SEEDS else None
    power = "" if detectable is None else f"This design would call {detectable:.3f} supported four times in five."
    if detectable is not None and not found.has_part("prompts"):
        power += " The choice of prompts is not in this interval: the records have none of it."
    return Verdict(
        contrast=contrast,
        difference=found,
        outcome=outcome,
        sentence=f"{why} {power}".strip(),
        reason=why,
        detectable=detectable,
        p_zero=zero.get(contrast),
        p_smallest=p,
    )


def _outcome(study: Study, contrast: Contrast, found: Difference, p: float | None) -> tuple[str, str]:
    count = len(found.seeds)
    settled = "inconclusive" if count >= MIN_SEEDS else UNSETTLED[count]
    if study.scale == "smoke":
        return settled, "A smoke run proves nothing; only the path was exercised."
    if count < MIN_SEEDS:
        return settled, _luck(count)
    if found.ci is None:
        return settled, "Nothing varies, so there is nothing to judge the difference by."
    if single := _single_draw(study, contrast):
        return settled, f"{single} is one random draw of its arm, and nothing tells how far the choice of it matters."
    if is_geneval(contrast.metric) and not found.has_part("prompts"):
        return settled, "No task has two prompts, so nothing tells how far the choice of prompts matters."
    if bound := _at_a_bound(found.scores, contrast.smallest_effect):
        return settled, bound
    outcome, why = _by_interval(contrast, found.ci)
    if outcome != "inconclusive" and p is not None and p > 1 - LEVEL:
        why = f"The interval alone would say {outcome}; corrected for the study's other contrasts (p {p:.2g})"
        return "inconclusive", f"{why} it does not."
    return outcome, why


def _single_draw(study: Study, contrast: Contrast) -> str:
    """A side that is one draw of several where the other sides are none: then no draw is paired with it."""
    if study.draws == "nested":
        return ""
    drawn = [[name for name in side if "draw" in study.variant(name).factors] for side in contrast.sides]
    return next((names[0] for names in drawn if len(names) == 1), "") if not all(drawn) else ""


def _at_a_bound(scores: Sequence[float], smallest: float) -> str:
    """Why scores that are all next to 0, or to 1, cannot tell variants apart; empty for others."""
    if scores and max(scores) < smallest:
        return f"Every variant of it scores below {smallest:g}: models that draw nothing right cannot be told apart."
    if scores and min(scores) > 1 - smallest:
        return f"Every variant of it scores above {1 - smallest:g}: nothing is left by which to tell them apart."
    return ""


def _luck(count: int) -> str:
    scatter = "covers the choice of prompts, not the luck of training" if count == 1 else "rests on two trainings"
    return f"The interval {scatter}; a verdict needs three training seeds."


def _by_interval(contrast: Contrast, ci: tuple[float, float]) -> tuple[str, str]:
    smallest, claim = contrast.smallest_effect, contrast.claim.rstrip(".")
    if ci[0] >= smallest:
        return "supported", f"The whole interval is at or above {smallest:g}: {claim}."
    if ci[1] < smallest:
        why = f"The whole interval is below {smallest:g}, which speaks against: {claim}."
        return "refuted", why if ci[1] >= 0 else f"{why} The difference even points the other way."
    if ci[0] > 0:
        why = f"The difference is clear of 0, but it may be smaller than the {smallest:g} that would matter."
    elif ci[1] < 0:
        why = f"The difference is below 0, but the interval does not rule out {smallest:g}."
    else:
        why = f"The interval holds both 0 and {smallest:g}: these data cannot tell."
    return "inconclusive", why


def primary(given: Sequence[Verdict]) -> Verdict | None:
    """The verdict that the study is about."""
    return next((verdict for verdict in given if verdict.contrast.is_primary), None)
