"""Every block of commands and of Python in the README and the chapters is run here, in the order of the pages.

A block runs unless the line before it says `<!-- not run: REASON -->`; `<!-- run with --all-blocks: REASON -->` leaves
a long one to `pytest tests/test_readme.py --all-blocks`. `<!-- file: NAME -->` saves one, and `<!-- output -->` holds
lines that the block before it must print (`...` is anything). All run in one folder, where later blocks find what
earlier ones made: run the whole file. Two tables bind what pages leave open, and cut sizes.
"""

import contextlib
import importlib
import io
import json
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *(f"{name}/README.md" for name in ("lightgen", "geneval", "benchmarks"))]
PAGES += ["ablations/README.md", "reports/README.md", "lightgen/DATA.md", "ablations/ENGINES.md", "benchmarks/GPU.md"]
STUDY = "runs/diversity_sweep-cpu"


def trained():
    """The model that README's study made."""
    return next(Path(STUDY).glob("store/train-*/model"))


# What a page writes -> what is there when its blocks run, page by page; a pattern on whole words.
BOUND = {
    "README.md": {
        "pip install [^&]*|pytest": "",
        "train-KEY": lambda _: trained().parent.name,
    },
    "lightgen/README.md": {
        "captions.txt": "two.txt",
        "PIPELINE|MODEL": lambda _: str(trained()),
        "VAE|T5": "icons",
        "DETECTOR": "icons --clip icon-clip",
        "BENCHMARK.jsonl": "benchmark.jsonl",
        "prompts.txt": "two.txt",
    },
    "geneval/README.md": {
        "--detector detector": "--detector icons --clip icon-clip",
        '"detector"': '"icons"',
        "score IMAGES --out results.jsonl": "score IMAGES --prompts IMAGES/evaluation_metadata.jsonl --out b.jsonl",
        "DETECTOR": "icons",
        "ViT-L-14": "icon-clip",
        "cuda": "cpu",
        r"train \.\.\.": "train latents --vae icons --text-encoder icons --out watched",
    },
    "benchmarks/README.md": {"GENERATED": "IMAGES", "REFERENCE": "photos", "inception-v3-compat": "icon-clip"},
    "lightgen/DATA.md": {
        "256": "32",
        r"data\.small=500.*": "data.small=40 data.large=80 data.clusters=12 data.captions_asked=12",
        r"--set \.\.\.the same\.\.\.": "--set data.folder=dataset data.small=40 data.large=80 data.clusters=12 "
        "data.captions_asked=12",
        "dataset": "photo-set",
        "diversity_sweep": "diversity_sweep --out runs/photos",
        "--seeds 0 1 2": "",
    },
    "ablations/ENGINES.md": {"OUT": STUDY, "CELL": "small-narrow-s0", "--detach": "--plan", "paper": "smoke"},
}
ONE = "--workers 1 --set runtime.threads=1"
FEW = "--set train.samples_seen=8 train.batch_size=4 train.warmup_steps=1"
# Added to a command, so that it takes seconds: a page's own command first, then the verb.
SMALLER = {
    "ablations.run diversity_sweep": f"--scale smoke --only small-narrow {ONE} --out {STUDY}",
    "ablations.run diversity_sweep --seeds 0 1 2": "--plan",
    "ablations.run guidance.py": f"--only guidance-1 guidance-3 {ONE} --out guidance",
    "lightgen train": FEW,
    "geneval prompts": "--num-prompts 2 --objects names.txt",
    "geneval generate": "--copies 3 --steps 2 --batch-size 8",
    "lightgen dpo": "--set steps=2 batch_size=2 warmup_steps=1",
}
SMALL = ("--num-prompts", "--copies")  # given anew where the page gives more


class Block(NamedTuple):
    """A fenced block: where it stands, what its fence and the comment before it say, and its text."""

    page: str
    line: int
    kind: str  # the fence's word: python, text, or nothing for commands
    mark: str  # the comment, as "not run: a synopsis"
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, text[: found.start(2)].count("\n") + 1, found[2], found[1] or "", found[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What a reader has: this checkout, captions, prompts, pictures and pairs of their own."""
    from ablations.icons.render import DatasetConfig, sample_scenes
    from ablations.icons.teacher import draw
    from ablations.icons.world import world
    from geneval.prompts import prompt_suite, write_prompts

    root = tmp_path_factory.mktemp("reader")
    for folder in ("ablations/icons/components", "reports/reference"):
        (root / folder).parent.mkdir(parents=True, exist_ok=True)
        (root / folder).symlink_to(ROOT / folder)
    (root / "two.txt").write_text("a photo of a red car\na photo of two clocks\n")
    (root / "names.txt").write_text("\n".join(world("components").classes))
    write_prompts(prompt_suite(["bench", "bus"], num_prompts=1), root / "exclude")
    shutil.move(root / "exclude" / "evaluation_metadata.jsonl", root / "benchmark.jsonl")
    (root / "photos").mkdir()
    for number, scene in enumerate(sample_scenes(DatasetConfig(world="components", images=120, diversity="all"))):
        draw(scene, world("components")).image.save(root / "photos" / f"{number:03d}.png")
        (root / "photos" / f"{number:03d}.txt").write_text(scene.request["prompt"])
    pairs = [{"prompt": "a photo", "chosen": f"photos/00{n}.png", "rejected": f"photos/00{n + 1}.png"} for n in (0, 2)]
    (root / "mine.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return root


@pytest.fixture(scope="module")
def printed():
    """What each page's last block printed."""
    return {}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block, place, printed, monkeypatch, request):
    kind, _, told = block.mark.partition(": ")
    if block.kind == "text" and kind != "output":
        return
    if kind in ("not run", "run with --all-blocks"):
        assert told, f"{block}: the mark says no reason"
        if kind == "not run" or not request.config.getoption("all_blocks"):
            return
    monkeypatch.chdir(place)
    # As in the repository's own folder: `ablations/` here must not stand in for the package in a new process.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if kind == "output":
        _compare(block, printed[block.page].replace(f"{place}/", "").replace(sys.executable, "python"))
    elif kind == "file":
        (place / told).write_text(block.text)
    elif block.kind == "python":
        printed[block.page] = _heard(lambda: exec(compile(bound(block), str(block), "exec"), given(block.page)))
    else:
        printed[block.page] = "".join(_run(line, block, monkeypatch) for line in commands(bound(block)))
    for command, check in AFTER.items():
        if command in block.text:
            check(place)


def bound(block):
    """The block's text with the page's placeholders bound."""
    text = block.text
    for name, value in BOUND.get(block.page, {}).items():
        text = re.sub(rf"(?<![\w-]){name}(?![\w-])", value, text)
    return text


def commands(text):
    """Each command of a block, without comments; a line may go on after a backslash, and hold several."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        yield from (part.strip() for part in re.sub(r"\s#.*", "", line).split("&&") if part.strip())


def _run(command, block, monkeypatch):
    """Run one `python -m ...` of ours in this process; what it printed."""
    python, dash_m, module, *words = shlex.split(command)
    assert (python, dash_m) == ("python", "-m"), f"{block}: {command} is no command of ours; mark the block"
    for start, more in SMALLER.items():
        if f"{module} {shlex.join(words)} ".startswith(f"{start} "):
            words = _with(words, shlex.split(more))
    monkeypatch.setattr(sys, "argv", [module, *words])
    main = importlib.import_module(module if module == "ablations.run" else f"{module}.__main__").main
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    code = []

    def call():
        try:
            code.append(main())
        except SystemExit as end:
            code.append(end.code)

    try:
        text = _heard(call)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert code[0] in (None, 0), f"{block}: {shlex.join(['python', '-m', module, *words])}\n{text}"
    return text


def _with(words, more):
    """A command's words with others added: options that it lacks, and pairs to the `--set` that it has."""
    for option, *values in _options(more):
        if option not in words:
            words = [*words, option, *values]
        elif option == "--set":
            start = words.index(option)
            end = start + len(next(found for found in _options(words) if found[0] == option))
            words = [*words[:end], *values, *words[end:]]
        elif option in SMALL:
            at = words.index(option) + 1
            words = [*words[:at], *values, *words[at + len(values) :]]
    return words


def _options(words):
    """Each option of a command with its values."""
    starts = [n for n, word in enumerate(words) if word.startswith("--")]
    return [words[start:end] for start, end in zip(starts, [*starts[1:], len(words)])]


def _heard(call):
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
        call()
    return heard.getvalue()


def _compare(block, heard):
    """Every line of the page stands in what was printed, in this order; what smaller sizes change is any number."""
    left = iter(heard.splitlines())
    for line in block.text.splitlines():
        line = re.split(r"   +", line)[0]  # what a page explains beside it
        pattern = re.escape(line).replace(r"\.\.\.", ".*")
        for word in CHANGED.get(block.page, ()):
            pattern = pattern.replace(re.escape(word), ".*")
        assert any(re.fullmatch(pattern, there.rstrip()) for there in left), f"{block}: {line!r} is not in\n{heard}"


# What an output says otherwise at these sizes.
CHANGED = {"README.md": ("cpu:", "10 cells", "2 at", "00:01", "draw_icons")}


def given(page):
    """The names that a page's Python takes for granted."""
    if page != "geneval/README.md":
        return {}
    import torch

    prompts = ["a photo of a clock", "a photo of two cups"]
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {"loop": [(prompts, images)], "images": images, "prompts": prompts}


def _the_study_of_one_s_own(place):
    assert len((place / "guidance.py").read_text().splitlines()) <= 40
    records = [json.loads(path.read_text()) for path in sorted(place.glob("guidance/cells/*/result.json"))]
    assert [record["variant"] for record in records] == ["guidance-1", "guidance-3"]
    assert {record["status"] for record in records} == {"complete"}
    assert len({record["inputs"]["train"] for record in records}) == 1
    assert (place / "guidance" / "report" / "index.html").is_file()


# What must be there besides, after a block with this command.
AFTER = {"ablations.run guidance.py": _the_study_of_one_s_own}
