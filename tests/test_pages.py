"""What the pages say is there: commands with their verbs and options, files, and the way to ten tasks."""

import re
import shlex
from pathlib import Path

import pytest

from tests.test_commands import OPTIONS

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/*.md"))
    if path.name != "LOG.md"  # a log says what was true on its day
)
GROUPS = {f"{words}": text.split() for words, text in OPTIONS.items() if not text.startswith("--")}
# What someone who has read the pages does without opening a source file, and where it says how.
TASKS = {
    "score a folder": "geneval/README.md#a-folder",
    "score in Python": "geneval/README.md#in-python",
    "generate": "lightgen/README.md#by-hand-from-captions-to-images",
    "train on own images": "lightgen/DATA.md",
    "run the study on own images": "lightgen/DATA.md",
    "own study": "ablations/README.md#ask-a-question-of-your-own",
    "preference training on own pairs": "lightgen/README.md#preference-training",
    "FID of two folders": "benchmarks/README.md#image-quality",
    "cluster run": "ablations/ENGINES.md",
    "cite": "README.md#license-and-citation",
}


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def commands(page):
    """Every `python -m` of ours in the page, in blocks (a line may go on after a backslash) and in running text."""
    for block in re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n", " ", block).splitlines()
        yield from (line.partition(" #")[0] for line in lines)
    running = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`(python -m [^`]+)`", running.replace("\n", " "))


def ours(page):
    """(verbs, options) of each command."""
    for line in commands(page):
        for part in re.split(r"&&|\|\s|;", line):
            found = re.search(r"python -m (lightgen|geneval|benchmarks|ablations(?:\.\w+)?|reports)\b(.*)", part)
            if found:
                words = _split(found[2])
                verbs = found[1]
                while verbs in GROUPS and words and words[0] in GROUPS[verbs]:
                    verbs = f"{verbs} {words.pop(0)}"
                verbs = "ablations.run" if verbs == "ablations run" else verbs
                yield verbs, words


def _split(words):
    try:
        return shlex.split(words)
    except ValueError:  # a quotation that goes on in the page's next line
        return words.split()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_has_the_options_that_it_is_shown_with(page):
    for verbs, words in ours(page):
        options = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
        known = OPTIONS.get(verbs)
        if known is None or not known.startswith("--"):
            assert not options or verbs in OPTIONS, f"{page}: python -m {verbs} is no command"
            continue
        unknown = [name for name in options if name not in (*known.split(), "--help")]
        assert not unknown, f"{page}: python -m {verbs} has no {', '.join(unknown)}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    folders = "lightgen|geneval|benchmarks|ablations|reports|tests"
    for name in re.findall(rf"(?<![\w./])((?:{folders})/[\w./-]+\.(?:py|md|json|toml|txt|csv))\b", text(page)):
        assert (ROOT / name).exists(), f"{page} names {name}"


def links(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            place = ((ROOT / page).parent / file).resolve() if file else ROOT / page
            if place.is_relative_to(ROOT):
                yield place.relative_to(ROOT).as_posix(), anchor


@pytest.mark.parametrize("task", TASKS)
def test_ten_tasks_are_two_clicks_away(task):
    page, _, anchor = TASKS[task].partition("#")
    first = {"README.md"} | {there for there, _ in links("README.md")}
    second = {there for near in first if near.endswith(".md") for there, _ in links(near)}
    assert page in first | second
    section = text(page)
    if anchor:
        titles = re.split(r"^#+ ", section, flags=re.MULTILINE)
        named = [
            part for part in titles if re.sub(r"[^\w\- ]", "", part.split("\n")[0].lower()).replace(" ", "-") == anchor
        ]
        assert len(named) == 1, f"{page} has no #{anchor}"
        section = named[0]
    assert task == "cite" or "python -m" in section or "```python" in section


def test_readme_is_short():
    assert len(text("README.md").splitlines()) <= 180 and len(text("README.md").encode()) <= 12_000


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), f"{page} links to {target}"
            if anchor:
                assert anchor in anchors(there), f"{page} links to {target}"


def anchors(page):
    """The names of a page's headings, as a forge makes them."""
    lines = page.read_text(encoding="utf-8").splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
