"""The official suite byte for byte, other suites, and metadata that cannot be used."""

import hashlib
import json

import numpy as np
import pytest

from geneval.prompts import (
    COLORS,
    OBJECTS,
    OFFICIAL_SHA256,
    Clause,
    MetadataError,
    Prompt,
    official_prompts,
    prompt_suite,
    prompts_sha256,
    read_prompts,
    write_prompts,
)
from geneval.random_stream import RandomStream

NUM_PROMPTS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_official_files_are_the_originals_bytes(tmp_path):
    write_prompts(official_prompts(), tmp_path)
    assert _sha256(tmp_path / "evaluation_metadata.jsonl") == OFFICIAL_SHA256
    texts = "55b6e3650e980c13daf30569eb666e000faf19bfc2b7b4cbe999fcdb7aa9d680"
    assert _sha256(tmp_path / "generation_prompts.txt") == texts
    assert read_prompts(tmp_path) == list(official_prompts())


def test_official_suite_has_the_original_number_of_prompts_a_task():
    tags = [prompt.tag for prompt in official_prompts()]
    assert {tag: tags.count(tag) for tag in NUM_PROMPTS} == NUM_PROMPTS


@pytest.mark.parametrize("seed", [0, 43, 2**32 + 5, 2**70 + 1])
def test_random_stream_is_numpys(seed):
    ours, theirs = RandomStream(seed), np.random.default_rng(seed)
    for population, size in ((80, 80), (80, 2), (7, 3), (1, 1), (4000, 5)):
        assert ours.choice(population, size) == theirs.choice(population, size=size, replace=False).tolist()
        assert ours.below(population) == int(theirs.choice(population))


def test_other_class_lists_need_no_person_and_hold_no_duplicates():
    suite = prompt_suite(["cat", "bus"], colors=["red", "blue"], num_prompts=30, seed=1)
    assert len(set(suite)) == len(suite)
    tags = [prompt.tag for prompt in suite]
    assert {tag: tags.count(tag) for tag in NUM_PROMPTS} == {
        "single_object": 2, "two_object": 2, "counting": 6, "colors": 4, "position": 8, "color_attr": 4
    }  # fmt: skip
    assert {clause.color for prompt in suite for clause in prompt.include} == {None, "red", "blue"}


def test_a_person_is_never_colored():
    suite = prompt_suite(["cat", "person", "bus", "dog"], num_prompts=200)
    assert all(clause.color is None for p in suite for clause in p.include if clause.class_name == "person")
    assert {c.class_name for p in suite if p.tag == "colors" for c in p.include} == {"cat", "bus", "dog"}


@pytest.mark.parametrize(
    ("objects", "arguments"),
    [
        (["cat"], {}),
        (["cat", "person"], {}),
        (["cat", "cat", "dog"], {}),
        (["cat", "dog"], {"colors": ["red"]}),
        (["cat", "dog"], {"colors": ["red", "mauve"]}),
        (["cat", "dog"], {"num_prompts": 0}),
        (["cat", "dog"], {"seed": -1}),
    ],
)
def test_impossible_suites_are_refused(objects, arguments):
    with pytest.raises(ValueError):
        prompt_suite(objects, **arguments)


def test_prompt_round_trips_through_its_metadata():
    for prompt in official_prompts():
        assert Prompt.from_metadata(json.loads(prompt.line())) == prompt
    record = {"tag": "t", "include": [{"class": "a", "count": 1}], "prompt": "p", "split": "unseen"}
    assert Prompt.from_metadata(record).metadata() == record


def test_hash_names_the_prompt_set():
    assert prompts_sha256(official_prompts()) == OFFICIAL_SHA256
    assert prompts_sha256(official_prompts()[:-1]) != OFFICIAL_SHA256


GOOD = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}], "prompt": "a photo of a red cat"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tag": ["colors"]}, "batching loader"),
        ({"tag": None}, "'tag' must be a string"),
        ({"prompt": 3}, "'prompt' must be a string"),
        ({"include": {}}, "must be a list"),
        ({"include": [{"class": ["cat"], "count": 1}]}, "'class' must be a string"),
        ({"include": [{"class": "cat", "count": "1"}]}, "'count' must be an integer"),
        ({"include": [{"class": "cat", "count": True}]}, "'count' must be an integer"),
        ({"include": [{"class": "cat", "count": 1, "color": "mauve"}]}, "'color' must be one of"),
        ({"include": [{"class": "cat", "count": 1, "size": 2}]}, "unknown"),
        ({"include": [{"class": "cat", "count": 1, "position": ["near", 0]}]}, "'position' must be"),
        ({"include": [{"class": "cat", "count": 1, "position": ["above", 0]}]}, "before it"),
    ],
)
def test_wrong_metadata_is_named(change, said):
    with pytest.raises(MetadataError, match=said):
        Prompt.from_metadata(GOOD | change, "here")


def test_prompts_file_errors_name_the_line(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"tag": "x"\n')
    with pytest.raises(MetadataError, match=r"prompts\.jsonl:2"):
        read_prompts(path)
    with pytest.raises(FileNotFoundError, match="geneval prompts"):
        read_prompts(tmp_path / "nowhere")


def test_names_are_the_originals():
    assert len(OBJECTS) == 80 and OBJECTS[64:67] == ("computer mouse", "tv remote", "computer keyboard")
    assert len(COLORS) == 10
    assert official_prompts()[0].include[0] == Clause("bench", 1)
