"""What the README shows is run here."""

import json
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def python_blocks():
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


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
