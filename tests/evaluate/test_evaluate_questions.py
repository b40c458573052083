"""Which clips are drawn: the same ones whatever else is asked for, and any beginning of them spread over all."""

from collections import Counter
from itertools import pairwise

import pytest

from t2v.data.worlds.prompts import prompts
from t2v.errors import SettingsError
from t2v.evaluate.questions import AT_NIGHT, questions, spread_order
from t2v.evaluate.request import FAMILY_NAMES, MEASURES, PROMPT_SPLITS, chosen


def asked(num_prompts=None, *, seed=0, splits=PROMPT_SPLITS, families=FAMILY_NAMES):
    return questions(seed, splits, families, num_prompts)


def test_all_frozen_prompts_are_asked_once_and_fireworks_at_night_ten_times():
    counted = Counter((one.prompt.split, one.prompt.kind, one.prompt.caption) for one in asked())
    for prompt in prompts():
        assert counted.pop((prompt.split, prompt.kind, prompt.caption)) == (10 if prompt.kind == AT_NIGHT else 1)
    assert not counted


def test_every_clip_has_a_seed_of_its_own():
    assert len({question.seed for question in asked()}) == len(asked()) == 1500 + 200
    assert max(question.seed for question in asked()) < 2**32


@pytest.mark.parametrize("part", [{"num_prompts": 7}, {"splits": ("unseen-wordings",)}, {"num_prompts": 100}])
def test_a_part_asks_for_clips_of_the_whole(part):
    assert set(map(name, asked(**part))) < set(map(name, asked()))


def test_a_larger_part_holds_a_smaller_one():
    assert set(map(name, asked(20))) < set(map(name, asked(50)))


def test_another_seed_of_the_evaluation_gives_other_clips():
    assert not {one.seed for one in asked(20)} & {one.seed for one in asked(20, seed=1)}


def name(question):
    return (question.prompt.split, question.place, question.repeat, question.seed)


@pytest.mark.parametrize("number", [50, 100])
def test_a_part_has_the_shares_of_the_whole(number):
    some = [one.prompt for one in asked(number) if one.prompt.kind != AT_NIGHT]
    for split in PROMPT_SPLITS:
        kinds = Counter(prompt.kind for prompt in some if prompt.split == split)
        assert kinds.total() == number
        assert kinds["two"] == pytest.approx(0.4 * number, abs=2)
        families = Counter(prompt.facts["family"] for prompt in some if prompt.split == split)
        assert set(families) == set(FAMILY_NAMES)


def test_whatever_moment_it_is_stopped_at_all_splits_were_asked_alike():
    for number in (30, 150, 600):
        splits = Counter(one.prompt.split for one in asked()[:number] if one.prompt.kind != AT_NIGHT)
        assert max(splits.values()) - min(splits.values()) <= 2


def test_families_are_chosen_and_fireworks_at_night_go_with_fireworks():
    assert {one.prompt.kind for one in asked(families=("suns", "waves"))} == {"one"}
    fireworks = asked(families=("fireworks",))
    assert {one.prompt.kind for one in fireworks} == {"one", AT_NIGHT}
    assert set(map(name, fireworks)) < set(map(name, asked()))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 18, 500])
def test_the_order_takes_everything_once_and_leaves_no_large_gap(length):
    order = spread_order(range(length))
    assert sorted(order) == list(range(length))
    first = sorted(order[: length // 5])
    if len(first) > 1:
        gaps = [after - before for before, after in pairwise(first)]
        assert max(gaps) <= 3 * 5


def test_names_are_chosen_in_the_order_known():
    assert chosen("likeness, alignment", MEASURES, "measure") == ("alignment", "likeness")
    assert chosen(None, MEASURES, "measure") == MEASURES
    with pytest.raises(SettingsError, match="unknown measure 'luck'; known are alignment, likelihood, likeness"):
        chosen("alignment,luck", MEASURES, "measure")
    with pytest.raises(SettingsError, match="no measure named"):
        chosen(" , ", MEASURES, "measure")
