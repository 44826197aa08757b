"""What a folder of images lacks, holds twice or should not hold: nothing is dropped in silence."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from geneval.detections import ImageDetections
from geneval.hashes import file_sha256
from geneval.images import MAX_BYTES
from geneval.layout import PromptFolder
from geneval.prompts import Prompt, official_prompts
from geneval.templates import read_asked

_NUM_LISTED = 20


class IncompleteFolder(ValueError):
    """A folder that must not be scored as it is; `problems` lists everything found."""

    def __init__(self, images: Path, problems: Sequence[str], asked: object = None) -> None:
        self.problems = list(problems)
        of = f" by the prompts of {asked}" if isinstance(asked, str | Path) else ""
        listed = "".join(f"\n  {problem}" for problem in self.problems[:_NUM_LISTED])
        more = f"\n  and {len(problems) - _NUM_LISTED} more" if len(problems) > _NUM_LISTED else ""
        super().__init__(
            f"{images}: not complete{of}, {len(problems)} problem(s):{listed}{more}\n"
            "Complete it, name the prompts it was made from (--prompts), or score what is there with --allow-partial."
        )


def expected_prompts(prompts: Sequence[Prompt] | Path | None) -> Sequence[Prompt]:
    """The prompts that must be there: those given, or GenEval's own."""
    if prompts is None:
        return official_prompts()
    return read_asked(Path(prompts)) if isinstance(prompts, str | Path) else prompts


def find_problems(
    folders: Sequence[PromptFolder],
    lines: Mapping[str, ImageDetections],
    expected: Sequence[Prompt],
    copies: int | None,
) -> list[str]:
    """One sentence a problem; `copies` images must lie in each folder (None: as many as in the fullest)."""
    samples = {sample for folder in folders for sample in folder.samples}
    wanted = copies or max((len(folder.samples) for folder in folders), default=1)
    return [
        *_prompt_problems(folders, expected),
        *(
            f"{folder.name}/samples: {len(folder.samples)} images, expected {wanted}"
            for folder in folders
            if len(folder.samples) != wanted
        ),
        *(f"{sample}: not in detections.jsonl" for sample in sorted(samples - lines.keys())),
        *(f"{name}: in detections.jsonl, but no such sample" for name in sorted(lines.keys() - samples)),
        *_mixed_detectors(lines),
    ]


def stale(images: Path, folders: Sequence[PromptFolder], lines: Mapping[str, ImageDetections]) -> dict[str, str]:
    """sample -> what is wrong, of images that are not those, or not of that prompt, that were detected."""
    found: dict[str, str] = {}
    for folder in folders:
        for sample in folder.samples:
            line = lines.get(sample)
            if line is not None and line.prompt and line.prompt != folder.metadata["prompt"]:
                found[sample] = f"{sample}: was detected for {line.prompt!r}, not for {folder.metadata['prompt']!r}"
            elif line is not None and line.sha256 and not _is_same(images / sample, line.sha256):
                found[sample] = f"{sample}: another picture than the one that was detected; run `detect` again"
    return found


def _is_same(path: Path, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size <= MAX_BYTES and file_sha256(path) == sha256


def _prompt_problems(folders: Sequence[PromptFolder], expected: Sequence[Prompt]) -> list[str]:
    """Compared as parsed documents: the order of keys and the spacing do not matter."""
    missing = Counter(_identity(prompt.metadata()) for prompt in expected)
    texts = {_identity(prompt.metadata()): (i, prompt) for i, prompt in enumerate(expected)}
    problems = []
    for folder in folders:
        identity = _identity(folder.metadata)
        missing[identity] -= 1
        if identity not in texts:
            problems.append(f"{folder.name}: {folder.metadata['prompt']!r} is not in the prompt set")
        elif missing[identity] < 0:
            problems.append(f"{folder.name}: {folder.metadata['prompt']!r} occurs once more than in the prompt set")
    for identity, count in missing.items():
        if count > 0:
            number, prompt = texts[identity]
            problems.append(f"prompt {number:05} {prompt.prompt!r} ({prompt.tag}): no folder")
    return problems


def _identity(metadata: Mapping[str, object]) -> str:
    return json.dumps(metadata, sort_keys=True)


def _mixed_detectors(lines: Mapping[str, ImageDetections]) -> list[str]:
    kinds: list[Mapping[str, object]] = []
    for line in lines.values():
        if line.detector not in kinds:
            kinds.append(line.detector)
    return [f"detections.jsonl: made by {len(kinds)} different detectors or settings"] if len(kinds) > 1 else []
