"""The page in a real browser: its filters work by keyboard or finger, nothing of a hostile record runs, a phone's width
suffices. Chromium without a window; skipped where there is none."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from reports import build_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
ATTACK = '<img src=x onerror="document.title=1"><script>document.title=2</script>" onclick=x'
# What a test asks the page, as a script that the page itself would never be allowed to run.
ASK = """<script>
const shown = () => [...document.querySelectorAll('.prompt')].filter(e => e.checkVisibility()).length;
const answer = {all: shown()};
for (const name of ['task-0', 'split-0', 'verdict-2']) {
  const input = document.getElementById(name);
  const before = input.closest('fieldset').querySelector('input');
  input.click(); answer[name] = shown(); before.click();
}
document.getElementById('verdict-0').click();
const opacity = kind => getComputedStyle(document.querySelector('.tile.' + kind)).opacity;
answer.right = opacity('right'); answer.wrong = opacity('wrong');
document.title = JSON.stringify(answer);
</script>"""
WIDTH = """<script>addEventListener('load', () => {
  const page = document.querySelector('iframe').contentDocument;
  const text = parseFloat(page.defaultView.getComputedStyle(page.body).fontSize);
  document.title = JSON.stringify({wide: page.documentElement.scrollWidth, text});
});</script>"""


def opened(path, tmp_path):
    """(title, what the console said) after the page at `path` was loaded."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
               f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr[-2000:]
    return html.unescape(title[1]), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def hostile(make_study):
    root = make_study()
    study = json.loads((root / "study.json").read_text())
    study.update(question=ATTACK, note=ATTACK + "\u202eabc" + "x" * 200)
    study["variants"][0]["label"] = ATTACK
    study["contrasts"][0].update(label=ATTACK, claim=ATTACK)
    (root / "study.json").write_text(json.dumps(study))
    for path in root.glob("cells/*/samples.json"):
        found = [{**s, "prompt": s["prompt"] + ATTACK, "reason": ATTACK} for s in json.loads(path.read_text())]
        path.write_text(json.dumps(found))
    return build_report(root)


def test_no_error_and_no_script_of_a_hostile_record(hostile, tmp_path):
    title, said = opened(hostile, tmp_path)
    assert title == "Diversity against volume" and not said


def test_the_filters_work_without_a_script_of_the_page(hostile, tmp_path):
    page = hostile.read_text()
    assert "<script" not in page
    asked = tmp_path / "asked.html"
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    asked.write_text(free.replace("</body>", f"{ASK}</body>"))
    found = json.loads(opened(asked, tmp_path)[0])
    assert found["all"] == 18 and 0 < found["task-0"] < 18 and 0 < found["split-0"] < 18
    assert 0 < found["verdict-2"] <= 18 and float(found["right"]) == 1 and float(found["wrong"]) < 0.2


def test_a_phone_shows_it_without_scrolling_sideways(hostile, tmp_path):
    frame = tmp_path / "frame.html"
    text = html.escape(hostile.read_text())
    frame.write_text(f'<title>none</title><iframe width=390 height=800 srcdoc="{text}"></iframe>{WIDTH}')
    found = json.loads(opened(frame, tmp_path)[0])
    assert found["wide"] <= 390 and found["text"] >= 14
