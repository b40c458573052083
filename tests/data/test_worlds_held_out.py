"""What is held out from training stays held out: combinations by their hash, wordings by their tables."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from t2v.data import worlds
from t2v.data.worlds import (
    EXAMPLE_PROMPTS,
    FAMILIES,
    WorldClip,
    candles,
    draw_world,
    fireworks,
    held_out,
    pendulums,
    plan_scene,
    rockets,
    shapes,
    skies,
    suns,
    waves,
    weather,
    write_worlds,
)
from t2v.data.worlds.grammar import VERBS
from t2v.data.worlds.held_out import Combination, combinations, is_held_out, shows_held_out

CAPTION_MODULES = [module for name, module in vars(worlds).items() if name.endswith("_captions")]

# Every combination of values that a family can show; of fireworks those of one colour, of shapes those of one subject.
TABLES: dict[str, list[tuple[str, ...]]] = {
    "shapes": [
        kind
        for kind in itertools.product(shapes.COLOURS, shapes.SHAPES, shapes.MOTIONS)
        if kind[1:] != ("circle", "spin")
    ],
    "fireworks": [
        (colour, number, sky)
        for sky in skies.SKIES
        for colour in (fireworks.DAY_COLOURS if sky == "day" else fireworks.COLOURS)
        for number in "12345"
    ],
    "weather": list(itertools.product(weather.KINDS, weather.AMOUNTS, weather.WINDS, skies.SKIES)),
    "suns": [
        kind
        for kind in itertools.product(suns.MOTIONS, suns.SUNS, suns.SKIES, suns.PLACES)
        if kind[1:3] != ("orange", "orange")
    ],
    "waves": list(itertools.product(waves.WATER, waves.MOTIONS, waves.HEIGHTS, skies.SKIES)),
    "candles": list(itertools.product(candles.WAX, "123", candles.MOTIONS)),
    "rockets": [
        (colour, size, sky) for sky in skies.SKIES for colour in rockets.colours_on(sky) for size in rockets.HEIGHTS
    ],
    "pendulums": [
        (colour, speed, ground)
        for ground in shapes.GROUNDS
        for colour in shapes.colours_on(ground)
        for speed in pendulums.PERIODS
    ],
}


@cache
def tiny(split: str) -> list[WorldClip]:
    """Many clips of a split that are told and not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        for name, family in FAMILIES.items():
            patch.setitem(FAMILIES, name, family._replace(draw=lambda *_: None))
        return [draw_world(8, index, split=split) for index in range(400)]


def seen(family: str) -> list[tuple[str, ...]]:
    return [kind for kind in TABLES[family] if not is_held_out(Combination(worded(family, kind), frozenset()))]


def worded(family: str, kind: tuple[str, ...]) -> str:
    """The words that are hashed."""
    return f"{family}: {' '.join('sideways' if value in ('left', 'right') else value for value in kind)}"


def held_out_wordings() -> Iterator[tuple[str, object, object]]:
    """Each table of held-out wordings with the table beside it: name, held out, trained on."""
    for module in CAPTION_MODULES:
        for name, table in vars(module).items():
            if name.startswith("UNSEEN"):
                ordinary = vars(module)[name.removeprefix("UNSEEN_")]
                for key in table if isinstance(table, dict) else [None]:
                    pair = (table, ordinary) if key is None else (table[key], ordinary[key])
                    yield f"{module.__name__}.{name} {key}", *pair


def held_out_pattern() -> re.Pattern[str]:
    """Finds a held-out wording in a caption, its verb in any form and its slots filled in any way."""
    patterns = []
    for phrase in {phrase for _, table, _ in held_out_wordings() for phrase in table}:
        verb, _, rest = phrase.partition(" ")
        forms = f"(?:{'|'.join((verb, *VERBS[verb]))})" if verb in VERBS else re.escape(verb)
        words = f"{forms} {re.escape(rest)}".strip() if verb != "{}" else re.escape(rest)
        patterns.append(words.replace(re.escape("{}") + r"\ ", "(?:.+ )?").replace(re.escape("{}"), ".+"))
    return re.compile(r"\b(?:" + "|".join(patterns) + r")(?=\b|$)")


def test_no_training_clip_is_of_a_held_out_combination():
    assert not any(shows_held_out(clip.facts) for clip in tiny("seen"))
    assert not any(shows_held_out(clip.facts) for clip in tiny("unseen-wordings"))


def test_no_training_caption_uses_a_held_out_wording():
    pattern = held_out_pattern()
    for split in ("seen", "unseen-combinations", "all"):
        assert not [c for clip in tiny(split) for c in clip.captions if pattern.search(c)]


def test_unseen_clips_are_of_what_training_leaves_out_one_kind_at_a_time():
    pattern = held_out_pattern()
    assert all(shows_held_out(clip.facts) for clip in tiny("unseen-combinations"))
    assert not [c for clip in tiny("unseen-wordings") for c in clip.captions if not pattern.search(c)]
    for split in ("unseen-combinations", "unseen-wordings"):
        assert {clip.facts["family"] for clip in tiny(split)} == set(FAMILIES)


def test_what_is_written_is_without_what_is_held_out_unless_asked(tmp_path):
    for name, options in {"plain": {}, "seen": {"split": "seen"}, "all": {"split": "all"}}.items():
        list(write_worlds(tmp_path / name, num_clips=12, size=16, num_frames=4, **options))
    plain, seen_only, everything = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("plain", "seen", "all")
    )
    assert plain == seen_only != everything


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tenth_to_a_sixth_of_the_combinations_are_held_out_and_every_two_values_still_meet(family):
    kinds, left = TABLES[family], seen(family)
    assert 0.10 <= 1 - len(left) / len(kinds) <= 0.15
    for one, two in itertools.combinations(range(len(kinds[0])), 2):
        assert {(kind[one], kind[two]) for kind in kinds} == {(kind[one], kind[two]) for kind in left}


def test_the_tables_of_this_test_are_all_that_can_be_drawn():
    rng = np.random.default_rng(0)
    for family in FAMILIES:
        drawn = {c.words for _ in range(1500) for c in combinations(plan_scene(family, rng, "all")[1])}
        ours = {worded(family, kind) for kind in TABLES[family]}
        assert {words for words in drawn if " and " not in words and "+" not in words} <= ours
        if family != "fireworks":
            assert len(drawn & ours) > 0.95 * len(ours)


def test_the_pair_of_two_shapes_is_held_out_whatever_they_do_and_in_whatever_order():
    star, ring = ({"colour": "red", "subject": "star"}, {"colour": "blue", "subject": "circle"})
    pairs = {
        combinations({"family": "shapes", "subjects": [one | {"motion": move}, two | {"motion": "up"}]})[-1].words
        for one, two in ((star, ring), (ring, star))
        for move in shapes.MOTIONS
    }
    assert pairs == {"shapes: blue circle and red star"}
    names = sorted(f"{colour} {shape}" for colour, shape in itertools.product(shapes.COLOURS, shapes.SHAPES))
    every = [
        Combination(f"shapes: {one} and {two}", frozenset())
        for one, two in itertools.combinations_with_replacement(names, 2)
    ]
    assert 0.10 < sum(map(is_held_out, every)) / len(every) < 0.15


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mirror_image_of_a_clip_is_held_out_with_it(family):
    """Training mirrors a clip whose caption names no side."""
    mirrored = {"left": "right", "right": "left"}
    left = seen(family)
    assert {tuple(mirrored.get(value, value) for value in kind) for kind in left} == set(left)


def test_the_rule_is_the_one_that_is_stated():
    for kind in TABLES["shapes"]:
        words = worded("shapes", kind)
        digest = hashlib.blake2b(f"{held_out.SALT}|{words}".encode(), digest_size=8).hexdigest()
        assert is_held_out(Combination(words, frozenset())) == (int(digest, 16) % 8 == 0)


def test_what_is_held_out_never_changes():
    """Scores of different days compare only while this list is the same."""
    kept = sorted(
        f"{family}: {' '.join(kind)}" for family in FAMILIES for kind in TABLES[family] if kind in seen(family)
    )
    wordings = sorted(phrase for _, table, _ in held_out_wordings() for phrase in table)
    assert hashlib.sha256("\n".join(kept).encode()).hexdigest()[:16] == "443bcfd494e96259"
    assert hashlib.sha256("\n".join(wordings).encode()).hexdigest()[:16] == "05ad4e5f47060b2a"


def test_a_clip_that_is_not_held_out_is_the_same_with_splits_and_without():
    same = 0
    for with_splits, without in zip(tiny("seen"), tiny("all"), strict=True):
        if not shows_held_out(without.facts):
            assert with_splits.captions == without.captions
            assert np.array_equal(with_splits.frames, without.frames)
            same += 1
    assert 0.75 * 400 < same < 0.95 * 400


def test_each_meaning_keeps_several_wordings_to_train_on():
    names = [name for name, _, _ in held_out_wordings()]
    assert len(names) > 70
    for name, unseen, ordinary in held_out_wordings():
        assert len(set(ordinary)) >= 2, name
        assert len(unseen) < len(set(ordinary)), name
        assert not set(unseen) & set(ordinary), name


def test_every_family_has_held_out_wordings():
    assert len(CAPTION_MODULES) == len(FAMILIES) + 1  # that of the backdrops
    for module in CAPTION_MODULES:
        assert any(name.startswith("UNSEEN") for name in vars(module)), module


def test_the_example_prompts_are_of_seen_combinations_in_seen_wordings():
    pattern = held_out_pattern()
    for prompt in EXAMPLE_PROMPTS:
        assert not pattern.search(prompt)
    for words in (
        "red circle sideways",
        "blue square spin",
        "yellow star grow",
        "green circle bounce",
        "white circle blink",
    ):
        assert not is_held_out(Combination(f"shapes: {words}", frozenset()))
    assert not is_held_out(Combination("shapes: orange triangle and white circle", frozenset()))
    assert not is_held_out(Combination("fireworks: gold 3 dusk", frozenset()))
