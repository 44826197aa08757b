"""The command lines: their verbs and options are frozen here, and help answers before any heavy library is loaded."""

import contextlib
import io
import itertools
import re
import runpy
import subprocess
import sys

import pytest

# command and verb -> its options besides --help; a verb with verbs of its own has these. Compared exactly.
OPTIONS = {
    "geneval": "prompts generate detect score summary compare agreement serve convert validate doctor",
    "geneval prompts": "--out --seed --num-prompts --objects --colors",
    "geneval generate": "--out --prompts --copies --seed --guidance --steps --size --batch-size --seeding --device "
    "--dtype --shard --call",
    "geneval detect": "--detector --clip --batch-size --device --shard --options --allow-partial",
    "geneval score": "--out --prompts --copies --options --allow-partial --grades --json",
    "geneval summary": "--json",
    "geneval compare": "--common --json",
    "geneval agreement": "--json",
    "geneval serve": "--detector --clip --host --port --token-file --batch-size --max-waiting --max-images "
    "--max-megabytes --device --options",
    "geneval convert": "--out",
    "geneval validate": "--json",
    "geneval doctor": "--detector --clip",
    "benchmarks": "quality speed regression gpu budget",
    "benchmarks budget": "--out",
    "benchmarks quality": "features fid measure clip-score detail doctor",
    "benchmarks quality features": "--extractor --out --shard --statistics --name --weights --batch-size --device "
    "--limit --skip-corrupt",
    "benchmarks quality fid": "--json",
    "benchmarks quality measure": "--json --extractor --clip --captions --reference-name --out --name --weights "
    "--batch-size --device --limit --skip-corrupt",
    "benchmarks quality clip-score": "--clip --captions --out --clip-s --device --skip-corrupt --json",
    "benchmarks quality detail": "--limit --plot --skip-corrupt --json",
    "benchmarks quality doctor": "--extractors --verify",
    "benchmarks speed": "sampling training memory preference geneval judge checks quality data",
    "benchmarks speed sampling": "--out --json --sizes --repetitions --threads --device --precision --batch-size "
    "--fast-only",
    "benchmarks speed training": "--out --json --sizes --repetitions --threads --device --precision --batch-size "
    "--fast-only",
    "benchmarks speed memory": "--out --json --sizes --threads --device --precision",
    "benchmarks speed preference": "--out --json --model --pairs --steps --repetitions --threads --parts",
    "benchmarks speed geneval": "--out --json --repetitions --detections --images",
    "benchmarks speed judge": "--out --json --detector --clip --images --batch-size --repetitions --threads",
    "benchmarks speed checks": "--out --json --scales --study --variants --changes --repetitions",
    "benchmarks speed quality": "--out --json --dimensions --samples --extractors --random --images --pixels "
    "--batch-size --repetitions --threads --device --parts",
    "benchmarks speed data": "--out --json --images --pictures --pixels --batch-size --cached --steps --repetitions "
    "--ids --threads --parts",
    "benchmarks regression": "--record --out --json",
    "benchmarks gpu": "--minutes --out --device --sizes --parts",
    "lightgen": "distill compose import prepare subset train pairs dpo generate export convert",
    "lightgen distill": "--out --teacher --device --call --json --copies --seed --batch-size --shard-size",
    "lightgen compose": "--out --json --images --seed --smallest --largest --pairs",
    "lightgen import": "--out --shard --json --size --filter --smallest --caption --max-rejected --shard-size",
    "lightgen prepare": "--out --vae --text-encoder --preset --max-length --device --json --flips --keep-padding "
    "--dtype --once --skip-bad --batch-size --shard",
    "lightgen subset": "--out --objects --json --images --diversity --by --features --clusters --narrow --seed --match "
    "--room --held-out",
    "lightgen train": "--out --vae --text-encoder --preset --switches --set --weights --start --subset --device --json "
    "--evaluate-every --evaluate --log-every --save-every-seconds --grace-seconds --accumulate --checkpoint --compile "
    "--track",
    "lightgen pairs": "teacher verifier detail layout random check",
    "lightgen pairs teacher": "--out --model --limit --batch-size --seed --device --call --json",
    "lightgen pairs verifier": "--out --images --exclude --per-prompt --min-gap --per-task --seed --json",
    "lightgen pairs detail": "--out --damages --vae --limit --batch-size --seed --device --json",
    "lightgen pairs layout": "--out --against --limit --json",
    "lightgen pairs random": "--out --seed --json",
    "lightgen pairs check": "--out --json",
    "lightgen dpo": "--pairs --out --reference --drift-from --policies --extrapolation --preset --set --device --json "
    "--log-every --save-every-seconds --grace-seconds --accumulate --checkpoint --compile --track",
    "lightgen generate": "--out --prompts --prompt --copies --seed --batch-size --device --exact --call --json",
    "lightgen export": "--out --vae --text-encoder",
    "lightgen convert": "--out --weights --heads --max-text-length --patch-size",
    "reports": "build check claims compare coverage difference export pack quote",
    "reports compare": "--json --out",
    "reports build": "--out",
    "reports claims": "",
    "reports check": "--json",
    "reports coverage": "--trials --seed --out --json",
    "reports difference": "--metric --json",
    "reports export": "--to --out",
    "reports pack": "--out --slim",
    "reports quote": "--check",
    "ablations.icons render": "--out --world --images --diversity --seed --wrong-layout --geneval",
    "ablations.icons sheet": "--out",
    "ablations.icons build": "--out --seed --steps",
    "ablations.icons measure": "--out",
    "ablations": "run status logs cancel check time worker icons",
    "ablations status": "",
    "ablations logs": "--lines",
    "ablations cancel": "",
    "ablations check": "",
    "ablations time": "--images --repetitions --threads --device --precision",
    "ablations.icons": "render sheet build measure",
    "ablations.run": "--scale --seeds --out --set --only --workers --engine --nodes --gpus-per-node --cpus --memory "
    "--time --slurm --detach --plan",
    "ablations.worker": "--study --until --processes --nodes --group --parent",
}
COMMANDS = ("lightgen", "geneval", "benchmarks", "ablations", "ablations.run", "ablations.icons", "reports")
HEAVY = ("torch", "transformers", "diffusers", "open_clip", "torchmetrics", "torch_fidelity", "matplotlib.pyplot")


def help_of(words: str, monkeypatch) -> str:
    """What `python -m WORDS --help` prints, run in this process; wide, so that no line is broken."""
    command, *verbs = words.split()
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "argv", [command, *verbs, "--help"])
    for name in (f"{command}.__main__", command):  # another test may have imported it
        if not hasattr(sys.modules.get(name), "__path__"):
            monkeypatch.delitem(sys.modules, name, raising=False)
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # in ASCII the boxes would look like options
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        runpy.run_module(command, run_name="__main__", alter_sys=True)
    printed.seek(0)
    text = printed.read()
    assert not ended.value.code, text
    return text


@pytest.mark.parametrize("words", OPTIONS)
def test_verbs_and_options_are_these_and_each_is_explained(words: str, monkeypatch) -> None:
    """tyro's help: a box a group, an argument a line that starts one space from its edge, its text there or below."""
    lines = [line.strip("│|") for line in help_of(words, monkeypatch).splitlines()]
    if verbs := [match[1] for line in lines if (match := re.match(r"   ?(?:[•*-] )?([\w-]+)  +\S", line))]:
        assert verbs == OPTIONS[words].split()
        return
    found = {}
    for line, below in itertools.pairwise(lines):
        if match := re.match(r" (--[\w-]+|[A-Z{\[])[^ ]*(?: [^ ].*?)?(?:   *([^ ].*))?$", line.rstrip()):
            found[match[1] if match[1].startswith("--") else line] = match[2] or below.strip()
    assert sorted(name for name in found if name.startswith("--")) == sorted(OPTIONS[words].split())
    for name, text in found.items():
        assert text and not text.startswith(("(default", "(required", "--")), f"{words} {name} has no help"


def test_every_verb_has_its_row() -> None:
    """So none escapes the test above; what `ablations` hands on has rows under its own name."""
    for words in [words for words in OPTIONS if f"{words} {OPTIONS[words].partition(' ')[0]}" in OPTIONS]:
        for verb in OPTIONS[words].split():
            assert f"{words} {verb}" in OPTIONS or f"{words}.{verb}" in OPTIONS or verb == "icons", f"{words} {verb}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", command, "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "ablations.run"])
def test_an_unknown_verb_is_refused_without_a_traceback(command: str, tmp_path) -> None:
    done = subprocess.run([sys.executable, "-m", command, "no-such-verb"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
