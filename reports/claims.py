"""Claims of a paper against the studies that test them: one page over many reports.

`FOLDER/claims.toml` names the claims; FOLDER/STUDY or FOLDER/STUDY-SCALE holds the records that answer them. A row's
verdict is that of its first contrast; every number is computed from the records when the page is built.

    title, paper     text: what the page is called, and whose claims these are
    [[claim]]        id, claim, place (in the paper), change (what would change the answer), and one of
      study + contrasts [names]      what is measured, the answer first
      study + spread "VARIANT"       how far the scores of its seeds scatter
      facts "FILE"                   {"sentences": [...]}, written by the command that it names
      cannot                         why it cannot be tested here
    optional: confounds              what else could explain the numbers
              related                what others found, and whether these numbers agree
              ranks                  {of = [variants], by = [metrics]}: whether metrics put the variants of a seed in
                                     one order, with each other and with the score (Kendall's tau)
              saturation             [{what, of = [variants], by = factor}]: the amount from which on the score is level
              front                  true: what a score costs (reports/front.py)
"""

import itertools
import os
import statistics
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightgen.disk.atomic import write_text
from lightgen.disk.json_files import read_object, read_text, typed
from reports.front import front_line
from reports.records.study import Study, readable_study
from reports.saturation import saturation
from reports.scores import scores
from reports.verdict import Verdict, verdicts
from reports.words import interval

FIELDS = {"id", "claim", "place", "change", "study", "contrasts", "spread", "facts", "cannot", "confounds", "related",
          "ranks", "saturation", "front"}  # fmt: skip
NEEDED = ("id", "claim", "place", "change")
OUTCOMES = ("supported", "refuted", "inconclusive", "measured", "not tested")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A claim with its answer."""

    id: str
    claim: str
    place: str
    change: str
    confounds: str
    related: str
    outcome: str  # in one word, of OUTCOMES or "unsettled"
    answer: str  # the outcome in the words of the verdict
    measured: Sequence[str]  # a line for each contrast or number
    link: str  # to the study's report, from FOLDER/claims/


def build_claims(folder: Path) -> Path:
    """Write FOLDER/claims/index.html and claims.md; returns the folder. A claim whose study or contrasts are not in the
    records is "not tested"; ValueError for a list that says too little or too much."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    listed = _listed(folder / "claims.toml")
    studies: dict[str, tuple[Study, Path]] = {}
    rows = [_row(claim, folder, studies) for claim in listed["claim"]]
    counts = Counter(row.outcome for row in rows)
    facts = {
        "title": listed["title"],
        "paper": listed["paper"],
        "rows": rows,
        "counts": {outcome: counts[outcome] for outcome in (*OUTCOMES, "unsettled") if counts[outcome]},
    }
    out = folder / "claims"
    out.mkdir(exist_ok=True)
    for name, template in (("index.html", "claims.html.j2"), ("claims.md", "claims.md.j2")):
        loader = PackageLoader("reports.page")
        pages = Environment(
            loader=loader, autoescape=name.endswith("html"), undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        write_text(out / name, pages.get_template(template).render(**facts) + "\n")
    return out


def _listed(path: Path) -> Mapping[str, Any]:
    """claims.toml, its fields checked."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; it names the claims (reports/README.md)")
    try:
        listed = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    typed(listed, str(path), title=str, paper=str, claim=list)
    for claim in listed["claim"]:
        where = f"{path}: claim {claim.get('id', '?') if isinstance(claim, dict) else '?'}"
        typed(claim, where)
        if missing := [name for name in NEEDED if name not in claim]:
            raise ValueError(f"{where} has no {', '.join(missing)}")
        if unknown := set(claim) - FIELDS:
            raise ValueError(f"{where}: unknown {', '.join(sorted(unknown))}; valid: {', '.join(sorted(FIELDS))}")
        if sum(name in claim for name in ("contrasts", "spread", "facts", "cannot")) != 1:
            raise ValueError(f"{where} needs one of contrasts, spread, facts and cannot")
        kinds = {"contrasts": list, "ranks": dict, "saturation": list, "front": bool}
        typed(claim, where, **{name: kinds.get(name, str) for name in claim})
        ranks = claim.get("ranks", {"of": ["x"], "by": ["x"]})
        if set(ranks) != {"of", "by"} or not all(map(_is_names, ranks.values())):
            raise ValueError(f"{where}: ranks needs two lists of names, of (variants) and by (metrics)")
        for entry in claim.get("saturation", []):
            typed(entry, f"{where}: saturation", what=str, of=list, by=str)
            if set(entry) != {"what", "of", "by"} or not _is_names(entry["of"]):
                raise ValueError(f"{where}: saturation needs what (text), of (variants) and by (a factor), each once")
        if "contrasts" in claim and not _is_names(claim["contrasts"]):
            raise ValueError(f"{where}: contrasts: expected names of contrasts")
        if ("contrasts" in claim or "spread" in claim) and "study" not in claim:
            raise ValueError(f"{where}: lacks study")
    return listed


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _row(claim: Mapping[str, Any], folder: Path, studies: dict[str, tuple[Study, Path]]) -> Row:
    link = ""
    if "cannot" in claim:
        outcome, answer, measured = "not tested", f"cannot be tested here: {claim['cannot']}", []
    elif "facts" in claim:
        outcome, answer = "measured", "computed, not judged"
        measured = [str(line) for line in read_object(folder / claim["facts"], sentences=list)["sentences"]]
    elif (found_study := _study(claim["study"], folder, studies)) is None:
        outcome, measured = "not tested", []
        answer = f"not run yet: python -m ablations.run {claim['study']} --seeds 0 1 2"
    else:
        study, place = found_study
        page = "index.html" if (place / "report" / "index.html").is_file() else "report.md"
        link = f"../{place.name}/report/{page}"
        if "spread" in claim:
            outcome, answer, measured = "measured", "measured, not judged", _spread(study, claim["spread"])
        else:
            found = {verdict.contrast.name: verdict for verdict in verdicts(study)}
            first, measured = found.get(claim["contrasts"][0]), _lines(found, claim["contrasts"])
            outcome = "not tested" if first is None else first.kind
            answer = "its variants were not made" if first is None else first.outcome
            if "ranks" in claim:
                measured += _ranks(study, claim["ranks"]["of"], claim["ranks"]["by"])
            if claim.get("front") and (line := front_line(study, scores(study))):
                measured.append(line)
            for entry in claim.get("saturation", []):
                measured.append(f"{entry['what']}: {saturation(study, entry['of'], entry['by']).line()}")
    texts = {name: claim.get(name, "").strip() for name in (*NEEDED, "confounds", "related")}
    return Row(**texts, outcome=outcome, answer=answer, measured=measured, link=link)


def _study(name: str, folder: Path, studies: dict[str, tuple[Study, Path]]) -> tuple[Study, Path] | None:
    """The records of the study of that name, read once; None where there are none."""
    if name not in studies:
        there = [path for path in sorted(folder.glob(f"{name}*")) if path.is_dir()]
        places = [path for path in there if any(os.path.lexists(path / part) for part in ("study.json", "cells"))]
        found = [(study, path) for path in places if (study := readable_study(path)).name == name]
        if not found:
            return None
        if len(found) > 1:
            raise ValueError(f"{folder} holds {len(found)} folders of records of {name}; one is needed")
        studies[name] = found[0]
    return studies[name]


def _lines(found: Mapping[str, Verdict], names: Sequence[str]) -> list[str]:
    """A line for each contrast that was made; those that were not are told together."""
    absent = [name for name in names if name not in found]
    lines = [_line(found[name]) for name in names if name in found]
    return [*lines, *([f"not made in these records: {', '.join(absent)}"] if absent else [])]


def _line(verdict: Verdict) -> str:
    """One contrast in one line: what it compares, the difference with its interval, and how it was judged."""
    found, contrast = verdict.difference, verdict.contrast
    if found.effect is None:
        return f"{contrast.label}: {found.obstacle}"
    published = "" if contrast.published_effect is None else f"; published {contrast.published_effect:+.2f}"
    seeds = f"{len(found.seeds)} seeds" if len(found.seeds) != 1 else "one seed"
    spread = interval(found.ci, "{:+.3f}") or "no interval"
    detectable = "" if verdict.detectable is None else f"; detectable {verdict.detectable:.3f}"
    return f"{contrast.label}: {found.effect:+.3f} {spread}, {seeds}{published}{detectable}: {verdict.outcome}"


def _ranks(study: Study, variants: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """How far metrics agree about the order of a seed's variants, pair by pair: Kendall's tau-b of each seed, and their
    mean with Student's interval over seeds."""
    from scipy.stats import kendalltau

    names = ["geneval/overall", *metrics]
    seeds: dict[int, list[list[float]]] = {}
    for cell in study.complete():
        values = [cell.metrics[name].value for name in names if name in cell.metrics]
        if cell.variant in variants and len(values) == len(names) and None not in values:
            seeds.setdefault(cell.seed, []).append([float(value) for value in values if value is not None])
    whole = [rows for rows in seeds.values() if len(rows) == len(variants)]
    if len(whole) < 2:
        raise ValueError(f"{study.name} has {len(whole)} seeds with {', '.join(names)} of {', '.join(variants)}")
    lines = []
    for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
        taus = [kendalltau(*([row[k] for row in rows] for k in (i, j))).statistic for rows in whole]
        mean, ends = _with_interval([float(tau) for tau in taus])
        lines.append(
            f"order of {len(variants)} training sets by {one} and by {other}: Kendall's tau {mean:+.2f}"
            f" {interval(ends, '{:+.2f}')}, {len(whole)} seeds"
        )
    return lines


def _with_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The mean and its 95 % interval by Student's t, for values in [-1, 1]."""
    from scipy.stats import t

    mean = statistics.mean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean, (max(-1.0, mean - half), min(1.0, mean + half))


def _spread(study: Study, variant: str) -> list[str]:
    """How the scores of one variant scatter over its seeds, over all prompts and task by task."""
    cells = [cell for cell in study.complete() if cell.variant == variant]
    if len(cells) < 2:
        raise ValueError(f"{study.name} has {len(cells)} complete cells of {variant!r}; a scatter needs two")
    names = [name for name in cells[0].metrics if name.startswith("geneval/")]
    values = {name: [value for cell in cells if (value := cell.metrics[name].value) is not None] for name in names}
    overall = values.pop("geneval/overall")
    spreads = sorted((statistics.stdev(given), name.removeprefix("geneval/")) for name, given in values.items())
    reach = 1.96 * 2**0.5 * statistics.stdev(overall)
    return [
        f"{len(cells)} seeds of {variant}: overall {statistics.mean(overall):.3f}, standard deviation"
        f" {statistics.stdev(overall):.3f}; by task from {spreads[0][0]:.3f} ({spreads[0][1]}) to"
        f" {spreads[-1][0]:.3f} ({spreads[-1][1]})",
        f"so two models of one seed each, trained alike, differ by up to {reach:.3f} overall and"
        f" {1.96 * 2**0.5 * spreads[-1][0]:.3f} in {spreads[-1][1]} in 19 of 20 cases",
    ]
