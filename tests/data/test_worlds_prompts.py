"""The evaluation prompts: frozen, complete, and asking for nothing that they do not say."""

import hashlib
import itertools
import re
from collections import Counter
from importlib import resources

import pytest

from t2v.data.worlds import FAMILIES, shape_captions
from t2v.data.worlds.held_out import shows_held_out
from t2v.data.worlds.prompts import SPLITS, asked, make_prompts, prompts

GROUND = re.compile(r" (background|ground|backdrop)$| on (black|white|grey|gray|dark blue|navy|cream|beige)$")
SCORED = [prompt for prompt in prompts() if prompt.kind != "fireworks at night"]
NIGHT = [prompt for prompt in prompts() if prompt.kind == "fireworks at night"]


def test_the_prompts_are_frozen():
    """Scores of different days compare only while the file is the same."""
    content = resources.files("t2v.data.worlds").joinpath("prompts.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "502a051282a13d8f5db7deac343bed8a71755a950465c32b724be922c731c68a"


def test_the_file_is_what_the_function_draws():
    assert list(itertools.islice(make_prompts(), 300)) == list(prompts()[:300])


@pytest.mark.slow
def test_the_whole_file_is_what_the_function_draws():
    assert tuple(make_prompts()) == prompts()


def test_each_split_has_500_prompts_of_one_subject_and_of_two_in_the_shares_of_the_families():
    assert Counter((prompt.split, prompt.kind) for prompt in SCORED) == {
        (split, kind): count for split in SPLITS for kind, count in (("one", 300), ("two", 200))
    }
    for split in SPLITS:
        one = Counter(p.facts["family"] for p in SCORED if p.split == split and p.kind == "one")
        assert one == {name: round(300 * family.share) for name, family in FAMILIES.items()}


def test_no_split_asks_twice_in_the_same_words():
    for split in SPLITS:
        captions = [prompt.caption for prompt in SCORED if prompt.split == split]
        assert len(set(captions)) == 500


def test_fireworks_at_night_is_asked_for_in_20_wordings_and_for_nothing_else():
    assert len({prompt.caption for prompt in NIGHT}) == 20
    assert "fireworks at night" in {prompt.caption for prompt in NIGHT}
    for prompt in NIGHT:
        assert prompt.facts == {"family": "fireworks", "backdrop": "night", "subjects": [{"subject": "fireworks"}]}


def test_a_prompt_names_a_held_out_combination_exactly_in_the_split_of_these():
    for prompt in SCORED:
        assert shows_held_out(prompt.facts) == (prompt.split == "unseen-combinations")


def test_two_subjects_are_told_apart_and_each_is_asked_for_its_shape_colour_and_motion():
    for prompt in SCORED:
        if prompt.kind == "two":
            one, two = prompt.facts["subjects"]
            assert one["colour"] != two["colour"]
            assert min(len(one), len(two)) >= 3


def test_a_prompt_asks_for_a_size_or_a_ground_only_if_it_says_so():
    sizes = [word for table in (shape_captions.SIZE_WORDS, shape_captions.UNSEEN_SIZE_WORDS) for word in table.items()]
    for prompt in SCORED:
        if prompt.facts["family"] == "shapes":
            said = Counter(re.findall("[a-z]+", prompt.caption))
            for size, words in sizes:
                asked_for = sum(subject.get("size") == size for subject in prompt.facts["subjects"])
                assert asked_for >= sum(said[word] for word in words)
            assert sum("size" in subject for subject in prompt.facts["subjects"]) == sum(
                said[word] for _, words in sizes for word in words
            )
            assert ("backdrop" in prompt.facts) == bool(GROUND.search(prompt.caption))


def test_what_a_caption_leaves_open_is_not_asked_for():
    burst = {"subject": "fireworks", "size": "changing", "motion": "burst"}
    facts = {
        "family": "fireworks",
        "number": 3,
        "backdrop": "night",
        "place": "city",
        "subjects": (burst | {"colour": "red"}, burst | {"colour": "gold"}, burst | {"colour": "red"}),
    }
    named = {(number, key) for number in range(3) for key in ("subject", "colour")}
    red, gold = ({"subject": "fireworks", "colour": colour} for colour in ("red", "gold"))
    assert asked(facts, named) == {"family": "fireworks", "subjects": [red, gold]}
    assert asked(facts, named | {"number"}) == {"family": "fireworks", "number": 3, "subjects": [red, gold, red]}
