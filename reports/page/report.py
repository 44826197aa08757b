"""From a study to its report: index.html, report.md, tables and figures; the same records give the same bytes.

The report is made beside the old one and takes its place at the end.
"""

import shutil
from pathlib import Path
from typing import Any

from reports.figures.effects import main_contrast
from reports.figures.samples import samples
from reports.gallery import gallery
from reports.page.head import answer, banners, facts, reasons
from reports.page.sections import sections
from reports.page.texts import texts
from reports.records.study import Study, read_study
from reports.scores import scores
from reports.tables.files import write_table
from reports.verdict import verdicts


def build_report(folder: Path, out: Path | None = None) -> Path:
    """The path of index.html, after writing the report on `folder` to `out` (`folder`/report if not given)."""
    folder = Path(folder)
    out = Path(out) if out else folder / "report"
    study = read_study(folder)
    _check_out(out, folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Names of their own, not random ones, so that what a killed build left is cleared by the next.
    new = out.parent / f".{out.name}.building"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        _write(study, new)
        _exchange(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return out / "index.html"


def markdown_of(study: Study) -> str:
    """What report.md says of the study."""
    return texts(_view(study))["report.md"]


def _view(study: Study) -> dict[str, Any]:
    """What the report's texts are made of."""
    found, judged, shown = scores(study), verdicts(study), gallery(study)
    return {
        "study": study,
        "banners": banners(study, found),
        "facts": facts(study, found),
        "answer": answer(study, judged),
        "answer_figure": main_contrast(judged),
        "reasons": reasons(judged),
        "sections": sections(study, found, judged),
        "gallery": shown,
        "samples": samples(shown) if shown else None,
    }


def _write(study: Study, out: Path) -> None:
    view = _view(study)
    parts = view["sections"]
    for name in ("tables", "figures"):
        (out / name).mkdir()
    for table in (table for part in parts for table in part.tables):
        write_table(table, out / "tables")
    for figure in [*(figure for part in parts for figure in part.figures), view["samples"], view["answer_figure"]]:
        if figure:
            figure.write(out / "figures")
    for name, text in texts(view).items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")


def _check_out(out: Path, folder: Path) -> None:
    """Refuse to replace anything but an older report."""
    if out.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(f"{out}: holds the study itself; give --out a folder of its own")
    if out.exists() and not (out.is_dir() and ((out / "index.html").is_file() or not any(out.iterdir()))):
        raise ValueError(f"{out}: is there already and is not a report; move it away or give another --out")


def _exchange(new: Path, out: Path) -> None:
    """Put the folder `new` in the place of `out`."""
    old = out.parent / f".{out.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)
