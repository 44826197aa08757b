"""What the README and the chapter on studies show is run here, and what they link to is there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python_blocks():
    pages = (ROOT / "README.md", ROOT / "ablations" / "README.md")
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_a_study_of_one_s_own_runs_as_it_stands(tmp_path):
    (block,) = [block for block in python_blocks() if "STUDY = study(" in block]
    assert len(block.splitlines()) <= 40
    (tmp_path / "guidance.py").write_text(block)
    command = [sys.executable, "-m", "ablations.run", str(tmp_path / "guidance.py"), "--scale", "smoke"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("out/cells/*/result.json"))]
    assert [record["variant"] for record in records] == ["guidance-1", "guidance-3", "guidance-5"]
    assert {record["status"] for record in records} == {"complete"}
    assert len({record["inputs"]["train"] for record in records}) == 1
    assert (tmp_path / "out" / "report" / "index.html").is_file()


def test_the_judge_in_readme_says_what_it_is_asked(capsys, monkeypatch):
    (block,) = [block for block in python_blocks() if "Judge.from_pretrained" in block]
    monkeypatch.chdir(ROOT)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out == "True\n"


PAGES = ("README.md", *(f"{name}/README.md" for name in ("lightgen", "geneval", "benchmarks", "ablations", "reports")))


@pytest.mark.parametrize("page", [*PAGES, "lightgen/DATA.md", "ablations/ENGINES.md", "benchmarks/GPU.md"])
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
