"""The drawn worlds: true to their captions, the same for the same seed, large enough to be seen."""

import functools
import itertools
import json
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageSequence

from t2v.config import FamilyName, SplitName
from t2v.data.worlds import (
    EXAMPLE_PROMPTS,
    FAMILIES,
    WorldClip,
    caption_words,
    draw_world,
    firework_captions,
    fireworks,
    prompts,
    shape_captions,
    shapes,
    skies,
    write_worlds,
)
from t2v.data.worlds.grammar import speak
from t2v.errors import DatasetError, SettingsError

ON_GROUND = re.compile(
    r" (?:on|against)(?: a)? (black|white|grey|gray|dark blue|navy|cream|beige)(?: background| ground)?$"
)
NUMBER_WORDS = {"two": 2, "pair": 2, "three": 3, "four": 4, "five": 5}


@functools.cache
def tiny_worlds(family: str) -> list[WorldClip]:
    """Many clips that are told and not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, family, FAMILIES[family]._replace(draw=lambda *_: None))
        return [draw_world(7, index, families=(family,)) for index in range(250)]


def single_shapes(motion: str, count: int, **options):
    """Clips of one shape with a given motion."""
    subjects = [clip.facts["subjects"] for clip in tiny_worlds("shapes")]
    fitting = [index for index, (first, *more) in enumerate(subjects) if first["motion"] == motion and not more]
    return (draw_world(7, index, families=("shapes",), **options) for index in fitting[:count])


def masks(frames: np.ndarray) -> np.ndarray:
    """Where the picture differs from its ground (the commonest colour of the top row over time). Shape: f h w."""
    rows = frames[:, 0].reshape(-1, 3)
    ground = np.median(rows, axis=0)
    return np.abs(frames - ground).max(axis=-1) > 60


def centroid(mask: np.ndarray) -> np.ndarray:
    """Mean place (x, y) of a mask, as shares of the frame."""
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean()]) / len(mask)


def like(frames: np.ndarray, rgb: tuple[float, float, float]) -> np.ndarray:
    """Where pixels have nearly this colour. Shape: f h w."""
    return np.abs(frames / 255 - np.array(rgb)).max(axis=-1) < 0.08


def read_gif(path: Path) -> np.ndarray:
    """Shape: f h w 3."""
    with Image.open(path) as file:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)])


def words_to_names(table: dict) -> dict[str, str]:
    return {word: name for name, words in table.items() for word in words}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_follows_from_seed_and_index_alone(family):
    first = draw_world(5, 11, families=(family,))
    draw_world(5, 12)
    np.random.default_rng(0).random(10)
    again = draw_world(5, 11, families=(family,))
    assert np.array_equal(first.frames, again.frames)
    assert first.captions == again.captions
    assert first.facts == again.facts


def test_other_seeds_and_other_indices_give_other_clips():
    clips = [draw_world(seed, index, size=16).frames.tobytes() for seed in range(3) for index in range(20)]
    assert len(set(clips)) == 60


@pytest.mark.parametrize("family", FAMILIES)
def test_size_and_frames_change_how_a_clip_is_seen_but_not_what_it_is(family):
    for index in range(8):
        large = draw_world(1, index, size=64, families=(family,))
        small = draw_world(1, index, size=32, families=(family,))
        longer = draw_world(1, index, size=16, num_frames=24, fps=12, families=(family,))
        assert large.frames.shape == (10, 64, 64, 3)
        assert longer.frames.shape == (24, 16, 16, 3)
        assert large.captions == small.captions == longer.captions
        assert large.facts == small.facts == longer.facts
        shrunk = large.frames.reshape(10, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        assert np.abs(shrunk - small.frames).mean() < 5


def test_more_frames_show_the_same_fireworks_in_smaller_steps():
    for index in range(6):
        short = draw_world(2, index, size=32, num_frames=5, families=("fireworks",))
        long = draw_world(2, index, size=32, num_frames=17, families=("fireworks",))
        assert np.array_equal(short.frames, long.frames[::4])


def test_families_come_in_their_shares_two_fifths_shapes_and_a_fifth_fireworks():
    drawn = Counter(draw_world(0, index, size=8, num_frames=4).facts["family"] for index in range(400))
    assert sum(family.share for family in FAMILIES.values()) == pytest.approx(1)
    assert (FAMILIES["shapes"].share, FAMILIES["fireworks"].share) == (0.4, 0.2)
    for name, family in FAMILIES.items():
        assert abs(drawn[name] / 400 - family.share) < 3 * np.sqrt(family.share * (1 - family.share) / 400)


def test_families_and_splits_have_the_names_that_can_be_asked_for():
    assert tuple(FAMILIES) == get_args(FamilyName)
    assert (*prompts.SPLITS, "all") == get_args(SplitName)


def test_all_kinds_of_shapes_and_fireworks_are_drawn():
    shape_facts = [clip.facts for clip in tiny_worlds("shapes")]
    subjects = [subject for facts in shape_facts for subject in facts["subjects"]]
    assert {subject["subject"] for subject in subjects} == set(shapes.SHAPES)
    assert {subject["colour"] for subject in subjects} == set(shapes.COLOURS)
    assert {subject["motion"] for subject in subjects} == set(shapes.MOTIONS)
    assert {subject["size"] for subject in subjects} == {"small", "medium", "large", "changing"}
    assert {facts["backdrop"] for facts in shape_facts} == set(shapes.GROUNDS)
    assert {facts["number"] for facts in shape_facts} == {1, 2}

    sky_facts = [clip.facts for clip in tiny_worlds("fireworks")]
    assert {facts["backdrop"] for facts in sky_facts} == set(skies.SKIES)
    assert {facts["place"] for facts in sky_facts} == set(skies.PLACES)
    assert {facts["number"] for facts in sky_facts} == {1, 2, 3, 4, 5}
    assert {s["colour"] for facts in sky_facts for s in facts["subjects"]} == set(fireworks.COLOURS)


def test_facts_can_be_written_as_json():
    for clip in (draw_world(0, index, size=8, num_frames=4) for index in range(10)):
        assert json.loads(json.dumps(clip.facts))["family"] == clip.facts["family"]


def test_circles_never_spin():
    kinds = {(s["subject"], s["motion"]) for clip in tiny_worlds("shapes") for s in clip.facts["subjects"]}
    assert ("circle", "spin") not in kinds
    assert ("star", "spin") in kinds


def test_no_shape_is_lost_on_its_ground():
    for clip in tiny_worlds("shapes"):
        for subject in clip.facts["subjects"]:
            assert subject["colour"] != clip.facts["backdrop"]
            assert (subject["colour"], clip.facts["backdrop"]) not in {("white", "cream"), ("black", "dark blue")}


@pytest.mark.parametrize(("motion", "step"), [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))])
@pytest.mark.parametrize("size", [32, 64])
def test_travel_goes_where_the_caption_says(motion, step, size):
    for clip in single_shapes(motion, 6, size=size):
        path = np.array([centroid(mask) for mask in masks(clip.frames)])
        way = path[-1] - path[0]
        assert way @ step > 0.25
        assert abs(way @ step[::-1]) < 0.02
        assert (np.diff(path @ step) > 0).all()


@pytest.mark.parametrize(("motion", "sign"), [("grow", 1), ("shrink", -1)])
def test_growing_and_shrinking_change_the_area_in_place(motion, sign):
    for clip in single_shapes(motion, 6):
        found = masks(clip.frames)
        areas = found.sum(axis=(1, 2)).astype(float)
        assert (np.diff(areas) * sign > 0).all()
        assert abs(np.log(areas[-1] / areas[0])) > np.log(2)
        assert np.abs(centroid(found[-1]) - centroid(found[0])).max() < 0.03


def test_spinning_turns_the_shape_about_its_middle():
    for clip in single_shapes("spin", 6):
        found = masks(clip.frames)
        areas = found.sum(axis=(1, 2))
        places = np.array([centroid(mask) for mask in found])
        changed = np.array([(a ^ b).sum() for a, b in itertools.pairwise(found)]) / areas.mean()
        assert np.ptp(areas) < 0.2 * areas.mean()
        assert np.ptp(places, axis=0).max() < 0.03
        assert (changed > 0.03).all()


def test_bouncing_goes_up_and_comes_down_again():
    for clip in single_shapes("bounce", 6):
        path = np.array([centroid(mask) for mask in masks(clip.frames)])
        steps = np.diff(path[:, 1])
        assert np.ptp(path[:, 1]) > 0.15
        assert np.ptp(path[:, 0]) < 0.02
        assert steps.min() < -0.03
        assert steps.max() > 0.03


@pytest.mark.parametrize(("num_frames", "fps"), [(10, 8), (4, 8), (24, 30), (10, 1)])
def test_blinking_is_seen_at_any_rate(num_frames, fps):
    for clip in single_shapes("blink", 6, num_frames=num_frames, fps=fps, size=32):
        areas = masks(clip.frames).sum(axis=(1, 2))
        assert areas.min() == 0
        assert areas.max() > 20
        assert ((areas == 0) | (areas == areas.max())).all()


@pytest.mark.parametrize("size", [32, 64])
def test_no_shape_is_ever_under_a_sixth_of_the_frame(size):
    for motion in shapes.MOTIONS:
        for clip in single_shapes(motion, 3, size=size):
            for mask in masks(clip.frames):
                y, x = np.nonzero(mask)
                # An edge can take up to a pixel from the width that counts as shape.
                assert mask.sum() == 0 or max(np.ptp(x), np.ptp(y)) + 2 >= size / 6


def test_two_shapes_each_do_what_is_said_of_them():
    directions = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    seen = 0
    for index, tiny in enumerate(tiny_worlds("shapes")[:120]):
        subjects = tiny.facts["subjects"]
        if len(subjects) == 2 and subjects[0]["colour"] != subjects[1]["colour"]:
            clip = draw_world(7, index, size=32, families=("shapes",))
            for subject in subjects:
                found = like(clip.frames, shapes.COLOURS[subject["colour"]])
                assert found.any()
                if subject["motion"] in directions:
                    assert (centroid(found[-1]) - centroid(found[0])) @ directions[subject["motion"]] > 0.2
                    seen += 1
    assert seen > 10


def test_captions_of_shapes_are_true():
    colour_of = words_to_names(shape_captions.COLOUR_WORDS)
    shape_of = words_to_names(shape_captions.SHAPE_WORDS)
    ground_of = words_to_names(shape_captions.GROUND_WORDS)
    size_of = words_to_names(shape_captions.SIZE_WORDS)
    for clip in tiny_worlds("shapes"):
        subjects = clip.facts["subjects"]
        motions = {subject["motion"] for subject in subjects}
        for caption in clip.captions:
            if ground := ON_GROUND.search(caption):
                assert ground_of[ground[1]] == clip.facts["backdrop"]
            said = re.findall("[a-z]+", ON_GROUND.sub("", caption))
            said_shapes = [shape_of[w] for w in (re.sub("(?<=x)es$|s$", "", w) for w in said) if w in shape_of]
            assert {colour_of[w] for w in said if w in colour_of} <= {s["colour"] for s in subjects}
            assert set(said_shapes) <= {s["subject"] for s in subjects}
            for small, following in itertools.pairwise(said):
                if small in size_of:
                    assert any(
                        s["size"] == size_of[small] and colour_of.get(following, s["colour"]) == s["colour"]
                        for s in subjects
                    )
            for side in ("left", "right"):
                assert (side not in said) or side in motions
            assert ("two" in said or "pair" in said) <= (len(subjects) == 2)


def test_captions_of_two_shapes_give_each_its_own_colour_and_motion():
    motion_of = {}
    for motion, phrases in shape_captions.MOTION_WORDS.items():
        for form, phrase in itertools.product((shape_captions.singular, shape_captions.participle), phrases):
            motion_of[form(phrase)] = motion
    checked = 0
    for clip in tiny_worlds("shapes"):
        one, *others = clip.facts["subjects"]
        if not others or one["motion"] == others[0]["motion"]:
            continue
        truth = {s["colour"]: s["motion"] for s in clip.facts["subjects"]}
        for caption in clip.captions:
            halves = re.split(r" and (?=an? )| while |, ", ON_GROUND.sub("", caption))
            assert len(halves) == 2
            for half in halves:
                doing = max((phrase for phrase in motion_of if half.endswith(" " + phrase)), key=len)
                colour = next(c for c, names in shape_captions.COLOUR_WORDS.items() if set(names) & set(half.split()))
                assert truth[colour] == motion_of[doing]
                checked += 1
    assert checked > 50


def test_captions_of_fireworks_are_true():
    colour_of = words_to_names(firework_captions.COLOUR_WORDS)
    sky_words = {"night": {"night", "dark"}, "dusk": {"dusk", "evening", "twilight"}, "day": {"day", "daytime"}}
    place_words = {"city": {"city", "rooftops"}, "hills": {"hills"}, "water": {"water", "sea", "lake"}}
    for clip in tiny_worlds("fireworks"):
        count, colours = clip.facts["number"], {s["colour"] for s in clip.facts["subjects"]}
        for caption in clip.captions:
            said = set(re.findall("[a-z]+", caption.replace("blue sky", "day")))
            named = {colour_of[word] for word in said & set(colour_of)}
            assert named in (set(), colours)
            assert ({"colourful", "colorful", "multicoloured"} & said == set()) or len(colours) > 2
            assert all(NUMBER_WORDS[word] == count for word in said & set(NUMBER_WORDS))
            assert ("firework" in said or "burst of" in caption) == (count == 1)
            assert ({"many", "several"} & said == set()) or (count > 3 or "many-" in caption)
            for sky, signs in sky_words.items():
                assert not (said & signs) or sky == clip.facts["backdrop"]
            for place, signs in place_words.items():
                assert not (said & signs) or place == clip.facts["place"]


def test_fireworks_by_night_are_bright_on_a_dark_sky():
    for index, tiny in enumerate(tiny_worlds("fireworks")[:40]):
        if tiny.facts["backdrop"] == "night":
            clip = draw_world(7, index, families=("fireworks",))
            levels = clip.frames.max(axis=-1) / 255
            lit = (levels > 0.5).mean(axis=(1, 2))
            assert np.median(levels) < 0.25
            assert levels[:, 0].mean() < 0.25
            assert levels.max() > 0.9
            assert lit.max() > 0.02
            assert lit[-1] < 0.6 * lit.max()  # they fade
            assert lit[0] < 0.5 * lit.max()  # and had to open first


def test_dusk_is_warm_and_day_is_blue():
    for clip in (draw_world(6, index, num_frames=4, families=("fireworks",)) for index in range(25)):
        first = clip.frames[0] / 255
        top, middle = first[:6].mean(axis=(0, 1)), first[40:44].mean(axis=(0, 1))
        if clip.facts["backdrop"] == "day":
            assert top[2] > 0.7
            assert top[2] > top[0] + 0.2
        if clip.facts["backdrop"] == "dusk":
            assert top.max() < 0.5
            assert middle[0] > middle[2] + 0.05


def test_fireworks_shine_in_the_colour_of_their_facts():
    """Read from the light that was added to the sky, whose direction in RGB is compared with every colour's."""
    checked = set()
    for index, tiny in enumerate(tiny_worlds("fireworks")[:60]):
        colours = {subject["colour"] for subject in tiny.facts["subjects"]}
        if tiny.facts["backdrop"] == "night" and len(colours) == 1:
            clip = draw_world(7, index, size=32, families=("fireworks",))
            upper = clip.frames[:, :24] / 255
            light = np.clip(upper - np.median(upper, axis=0), 0, 1).mean(axis=(0, 1, 2))
            names = list(fireworks.COLOURS)
            table = np.array([fireworks.COLOURS[name] for name in names])
            alike = table @ light / np.linalg.norm(table, axis=1)
            assert names[int(alike.argmax())] in colours
            checked |= colours
    assert len(checked) >= 4


def test_captions_use_the_words_that_are_listed_and_all_of_them():
    rng = np.random.default_rng(0)
    said = set()
    for family in FAMILIES.values():
        for _ in range(500):
            scene = family.plan(rng)
            for unseen in (False,) * 8 + (True,) * 2:
                said.update(re.findall("[a-z]+", speak(rng, partial(family.sentence, scene), unseen=unseen)[0]))
    assert said == set(caption_words())


def test_example_prompts_are_made_of_known_words_and_lead_with_fireworks_at_night():
    assert EXAMPLE_PROMPTS[0] == "fireworks at night"
    for prompt in EXAMPLE_PROMPTS:
        assert set(re.findall("[a-z]+", prompt)) <= set(caption_words())


def test_fireworks_at_night_is_itself_a_common_caption():
    captions = [c for clip in tiny_worlds("fireworks") for c in clip.captions if clip.facts["backdrop"] == "night"]
    assert captions.count("fireworks at night") > 0.02 * len(captions)


def test_every_clip_has_one_to_three_captions_in_different_words():
    for clip in itertools.chain.from_iterable(map(tiny_worlds, FAMILIES)):
        assert 1 <= len(clip.captions) <= 3
        assert len(set(clip.captions)) == len(clip.captions)
        assert all(caption == " ".join(caption.split()) for caption in clip.captions)


def test_too_few_frames_and_unknown_families_are_refused():
    with pytest.raises(SettingsError, match="3 frames cannot show a motion; ask for 4 or more"):
        draw_world(0, 0, num_frames=3)
    with pytest.raises(SettingsError, match="unknown family 'firework'; known are shapes, fireworks, weather"):
        draw_world(0, 0, families=("firework",))


def test_written_clips_read_back(tmp_path):
    folder = tmp_path / "new" / "gifs"
    assert list(write_worlds(folder, num_clips=4, seed=3, size=32, start=2)) == [1, 2, 3, 4]
    for index in range(2, 6):
        clip = draw_world(3, index, size=32, split="seen")
        stem = f"{clip.facts['family']}-{index:05d}"
        assert (folder / f"{stem}.txt").read_text().splitlines() == list(clip.captions)
        frames = read_gif(folder / f"{stem}.gif")
        assert frames.shape == clip.frames.shape
        assert np.abs(frames.astype(int) - clip.frames).mean() < 4


def test_several_processes_write_the_same_files(tmp_path):
    assert list(write_worlds(tmp_path / "one", num_clips=12, size=16)) == list(range(1, 13))
    assert list(write_worlds(tmp_path / "two", num_clips=12, size=16, num_workers=2)) == list(range(1, 13))
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_writing_again_adds_to_a_folder_of_the_same_worlds(tmp_path):
    list(write_worlds(tmp_path, num_clips=2, size=16))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    list(write_worlds(tmp_path, num_clips=3, size=16))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(after) == 6
    assert before.items() <= after.items()


def test_a_folder_with_other_files_or_other_worlds_is_refused(tmp_path):
    (tmp_path / "holiday.gif").write_bytes(b"mine")
    with pytest.raises(DatasetError, match=r"holds holiday\.gif, which is not of these clips; name an empty or a new"):
        list(write_worlds(tmp_path, num_clips=1))
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.gif"]

    other = tmp_path / "other"
    list(write_worlds(other, num_clips=2, size=16, seed=1))
    with pytest.raises(DatasetError, match="not of these clips"):
        list(write_worlds(other, num_clips=2, size=16, seed=2))
    with pytest.raises(DatasetError, match="not of these clips"):
        list(write_worlds(other, num_clips=2, size=16, seed=1, split="unseen-wordings"))


def test_the_clips_that_come_with_the_project_are_drawn_again(tmp_path):
    """`t2v worlds data --num-clips 12 --seed 3 --families shapes,fireworks`"""
    list(write_worlds(tmp_path, num_clips=12, seed=3, families=("shapes", "fireworks")))
    kept = Path(__file__).parents[2] / "data"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in kept.iterdir())
    for path in kept.glob("*.txt"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
        assert np.array_equal(*(read_gif(folder / f"{path.stem}.gif") for folder in (kept, tmp_path)))
