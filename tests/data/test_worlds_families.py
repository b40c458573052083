"""The families beside shapes and fireworks: what their facts say can be read back from their pixels by plain rules."""

import functools
import itertools
from collections import Counter

import numpy as np
import pytest

from t2v.data.worlds import (
    FAMILIES,
    WorldClip,
    backdrop_captions,
    candle_captions,
    candles,
    draw_world,
    pendulum_captions,
    pendulums,
    rocket_captions,
    rockets,
    shape_captions,
    shapes,
    skies,
    sun_captions,
    suns,
    wave_captions,
    waves,
    weather,
    weather_captions,
)

NUM_CLIPS = 40


@functools.cache
def clips(family: str, num_clips: int = NUM_CLIPS, **options) -> list[WorldClip]:
    return [draw_world(11, index, families=(family,), **options) for index in range(num_clips)]


def told(family: str, num_clips: int, **options) -> list[WorldClip]:
    """Clips without their pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, family, FAMILIES[family]._replace(draw=lambda *_: None))
        return [draw_world(11, index, families=(family,), **options) for index in range(num_clips)]


def like(frames: np.ndarray, rgb: tuple[float, float, float], *, within: float = 0.1) -> np.ndarray:
    """Where pixels have nearly this colour. Shape: f h w."""
    return np.abs(frames / 255 - np.array(rgb)).max(axis=-1) < within


def centroids(masks: np.ndarray) -> np.ndarray:
    """Mean place (x, y) of each mask, as shares of the frame; nan where there is nothing."""
    y, x = np.indices(masks.shape[1:])
    weight = np.where(masks.any(axis=(1, 2)), masks.sum(axis=(1, 2)), np.nan)
    return np.stack([(masks * x).sum(axis=(1, 2)), (masks * y).sum(axis=(1, 2))], axis=1) / weight[:, None] / len(y)


def shift(frames: np.ndarray, *, across: int, down: tuple[int, int]) -> tuple[int, int]:
    """The step (x, y) in pixels from frame to frame under which the changing part of the clip agrees best."""
    light = frames.mean(axis=-1)
    light = light - np.median(light, axis=0)
    steps = itertools.product(range(-across, across + 1), range(down[0], down[1] + 1))
    return max(steps, key=lambda step: (np.roll(light[:-1], (step[1], step[0]), axis=(1, 2)) * light[1:]).sum())


@pytest.mark.parametrize("size", [32, 64])
def test_rain_and_snow_fall_down_and_are_blown_where_the_facts_say(size):
    for clip in clips("weather", 20, size=size):
        x, y = shift(clip.frames, across=size // 8, down=(-size // 5, size // 5))
        assert y > 0
        assert np.sign(x) == {"none": 0, "left": -1, "right": 1}[clip.facts["wind"]]


def test_rain_falls_much_faster_than_snow():
    speeds = {"rain": [], "snow": []}
    for clip in clips("weather"):
        speeds[clip.facts["subjects"][0]["subject"]].append(shift(clip.frames, across=8, down=(0, 12))[1])
    assert min(speeds["rain"]) > 1.5 * max(speeds["snow"])


def test_heavy_rain_and_snow_are_denser_than_light():
    lit = {}
    for clip in clips("weather", 120, size=32):
        facts, light = clip.facts, clip.frames.mean(axis=-1)
        kind = facts["subjects"][0]["subject"], facts["backdrop"], facts["amount"]
        lit.setdefault(kind, []).append((light - light.min(axis=0) > 12).mean())
    for kind, sky in itertools.product(weather.KINDS, skies.SKIES):
        assert min(lit[kind, sky, "heavy"]) > 1.5 * max(lit[kind, sky, "light"])


def test_the_sun_rises_into_a_bright_sky_and_sets_into_a_dark_one():
    for clip in clips("suns"):
        (sun,) = clip.facts["subjects"]
        frames = clip.frames if sun["motion"] == "up" else clip.frames[::-1]
        found = like(frames, suns.SUNS[sun["colour"]])
        heights = centroids(found)[:, 1]
        seen = heights[~np.isnan(heights)]
        assert (np.diff(seen) < 0).all()
        assert seen[0] - seen[-1] > 0.25
        assert frames[-1, :4].mean() > 1.5 * frames[0, :4].mean()
        width = np.sqrt(found[-1].mean() * 4 / np.pi)
        assert (width > 0.29) == (sun["size"] == "large")


def test_no_sun_is_lost_in_its_sky():
    kinds = {(clip.facts["subjects"][0]["colour"], clip.facts["backdrop"]) for clip in told("suns", 300)}
    assert kinds == set(itertools.product(suns.SUNS, suns.SKIES)) - {("orange", "orange")}


def test_waves_roll_to_the_side_of_their_facts_in_their_colour_and_height():
    for clip in clips("waves"):
        (sea,) = clip.facts["subjects"]
        nearest = clip.frames[:, 44:]
        step, _ = shift(nearest, across=6, down=(0, 0))
        assert np.sign(step) == (-1 if sea["motion"] == "left" else 1)
        red, green, blue = clip.frames[:, 30:].mean(axis=(0, 1, 2)) / 255
        assert (
            (blue > green * 1.3, green > blue * 1.3).index(True) == ["blue", "green"].index(sea["colour"])
            if (sea["colour"] != "grey")
            else max(red, green, blue) < 1.25 * min(red, green, blue)
        )
        rows = np.abs(clip.frames[:, 18:36].astype(float) - clip.frames[:, 18:36].mean(axis=2, keepdims=True))
        moved = (rows.mean(axis=(0, 2, 3)) > 4).sum()
        assert (moved > 8) == (sea["size"] == "large")


def flames(frames: np.ndarray) -> list[int]:
    """How many flames stand side by side in each frame: runs of columns with a pixel nearly white-hot."""
    hot = ((frames[..., 0] > 240) & (frames[..., 1] > 190) & (frames[..., 2] > 90)).any(axis=1)
    return [int((np.diff(row.astype(int), prepend=0) == 1).sum()) for row in hot]


def test_candles_are_as_many_as_the_facts_say_and_burn_or_are_lit_or_go_out():
    seen = Counter()
    for clip in clips("candles"):
        number, (candle, *_) = clip.facts["number"], clip.facts["subjects"]
        # White and yellow wax is nearly as bright as a flame.
        if candle["colour"] in ("white", "yellow"):
            continue
        burning = flames(clip.frames)
        assert burning[0] == (0 if candle["motion"] == "light up" else number)
        assert burning[-1] == (0 if candle["motion"] == "go out" else number)
        assert len(clip.facts["subjects"]) == number
        seen[candle["motion"]] += 1
    assert set(seen) == set(candles.MOTIONS)


def test_a_flame_flickers_and_is_never_still():
    for clip in clips("candles"):
        if clip.facts["subjects"][0]["motion"] == "flicker":
            assert (np.abs(np.diff(clip.frames.astype(int), axis=0)).max(axis=(1, 2, 3)) > 20).all()


def test_candles_stand_out_in_the_colour_of_their_facts_and_tall_ones_are_taller():
    for clip in clips("candles"):
        (candle, *_) = clip.facts["subjects"]
        lit = clip.frames[-1 if candle["motion"] == "light up" else 0] / 255
        wax = np.array(candles.WAX[candle["colour"]])
        names = list(candles.WAX)
        table = np.array([candles.WAX[name] for name in names])
        foot = lit[52:56].reshape(-1, 3)
        foot = foot[np.linalg.norm(foot - candles.GROUNDS[clip.facts["backdrop"]], axis=1) > 0.3].mean(axis=0)
        cosine = table @ foot / np.linalg.norm(table, axis=1) / np.linalg.norm(foot)
        assert names[int(cosine.argmax())] == candle["colour"]
        high = like(lit[None] * 255, tuple(wax * 0.9), within=0.2)[0].any(axis=1).sum() / 64
        assert (high > 0.33) == (candle["size"] == "large")


def test_a_rocket_stands_first_and_then_climbs_faster_and_faster():
    for clip in clips("rockets"):
        (rocket,) = clip.facts["subjects"]
        heights = centroids(like(clip.frames, rockets.COLOURS[rocket["colour"]], within=0.06))[:, 1]
        steps = -np.diff(heights)
        assert abs(steps[0]) < 0.01
        assert steps[-1] > 0.05
        assert heights[0] - heights[-1] > 0.35
        assert steps[-4:].mean() > steps[1:5].mean()


def test_a_pendulum_swings_to_both_sides_and_a_fast_one_turns_back_within_the_clip():
    for clip in clips("pendulums"):
        (pendulum,) = clip.facts["subjects"]
        found = like(clip.frames, shapes.COLOURS[pendulum["colour"]])
        found[:, :10] = False  # a black weight and its beam are alike
        x = centroids(found)[:, 0]
        assert x.min() < 0.4
        assert x.max() > 0.6
        came_back = np.abs(x - x[0]).max() - abs(x[-1] - x[0])
        assert (came_back > 0.2) == (pendulum["speed"] == "fast")


@pytest.mark.parametrize(("num_frames", "fps"), [(4, 8), (10, 1), (24, 30), (48, 16)])
def test_fast_pendulums_swing_faster_than_slow_ones_at_any_rate(num_frames, fps):
    moved = {"slow": [], "fast": []}
    for clip in clips("pendulums", 24, size=32, num_frames=num_frames, fps=fps):
        (pendulum,) = clip.facts["subjects"]
        x = centroids(like(clip.frames, shapes.COLOURS[pendulum["colour"]]))[:, 0]
        moved[pendulum["speed"]].append(np.abs(np.diff(x)).sum())
    assert np.median(moved["fast"]) > 1.3 * np.median(moved["slow"])


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("weather", {"amount": weather.AMOUNTS, "wind": weather.WINDS, "place": skies.PLACES, "backdrop": skies.SKIES}),
        ("suns", {"backdrop": suns.SKIES, "place": suns.PLACES}),
        ("waves", {"backdrop": skies.SKIES}),
        ("candles", {"number": (1, 2, 3), "backdrop": candles.GROUNDS}),
        ("rockets", {"backdrop": skies.SKIES, "place": rockets.PLACES}),
        ("pendulums", {"backdrop": shapes.GROUNDS}),
    ],
)
def test_every_value_of_a_family_is_drawn(family, keys):
    drawn = [clip.facts for clip in told(family, 250)]
    for key, values in keys.items():
        assert {facts[key] for facts in drawn} == set(values)
    subject_values = {
        "weather": {"subject": weather.KINDS},
        "suns": {"colour": suns.SUNS, "size": suns.RADII, "motion": suns.MOTIONS},
        "waves": {"colour": waves.WATER, "size": waves.HEIGHTS, "motion": waves.MOTIONS},
        "candles": {"colour": candles.WAX, "size": candles.HEIGHTS, "motion": candles.MOTIONS},
        "rockets": {"colour": rockets.COLOURS, "size": rockets.HEIGHTS},
        "pendulums": {"colour": shapes.COLOURS, "size": pendulums.RADII, "speed": pendulums.PERIODS},
    }[family]
    for key, values in subject_values.items():
        assert {facts["subjects"][0][key] for facts in drawn} == set(values)


def both(*tables: dict) -> dict[str, tuple[str, ...]]:
    """One table of the wordings that are trained on and of those that are held out."""
    return {key: tuple(phrase for table in tables for phrase in table.get(key, ())) for key in tables[0]}


WHEN = both(backdrop_captions.WHEN, backdrop_captions.UNSEEN_WHEN)
WHERE = both(backdrop_captions.WHERE, backdrop_captions.UNSEEN_WHERE)
# What captions may claim: a key of the facts or of the first subject's, and the phrases for each of its values.
CLAIMS = {
    "weather": {
        "backdrop": WHEN,
        "place": WHERE,
        "wind": both(weather_captions.BLOWN, weather_captions.UNSEEN_BLOWN)
        | {"none": ("straight", "no wind", "still")},
        "amount": {
            amount: tuple(
                phrase
                for table in (weather_captions.NOUNS, weather_captions.UNSEEN_NOUNS)
                for (_, of), phrases in table.items()
                for phrase in phrases
                if of == amount
            )
            + weather_captions.HOW[amount]
            + weather_captions.UNSEEN_HOW[amount]
            for amount in weather.AMOUNTS
        },
        "subject": {"rain": ("rain", "raindrops", "drizzle"), "snow": ("snow", "snowflakes", "flurries")},
    },
    "suns": {
        "place": WHERE,
        "backdrop": {name: tuple(f"{word} sky" for word in words) for name, words in sun_captions.SKY_COLOURS.items()},
        "motion": both(sun_captions.MOTIONS, sun_captions.UNSEEN_MOTIONS, sun_captions.UNSEEN_TITLES)
        | {"up": ("sunrise", "rises", "rising", "daybreak"), "down": ("sunset", "sets", "setting", "sundown")},
        "colour": {name: tuple(f"{word} sun" for word in words) for name, words in sun_captions.COLOURS.items()},
        "size": both(sun_captions.SIZES, sun_captions.UNSEEN_SIZES),
    },
    "waves": {
        "backdrop": WHEN,
        "motion": {"left": ("left",), "right": ("right",)},
        "colour": wave_captions.COLOURS,
        "size": both(wave_captions.SIZES, wave_captions.UNSEEN_SIZES),
    },
    "candles": {
        "number": {
            1: ("a", "one", "single", "lone"),
            2: ("two", "a couple of", "a pair of"),
            3: ("three", "a trio of"),
        },
        "colour": {
            name: tuple(f"{word} {end}" for word in words for end in ("candle", "candles"))
            for name, words in candle_captions.COLOURS.items()
        },
        "size": both(candle_captions.SIZES, candle_captions.UNSEEN_SIZES),
        "backdrop": {name: words for name, words in candle_captions.GROUNDS.items() if name == "brown"}
        | {
            "black": ("on black", "black background", "black ground", "black backdrop"),
            "dark blue": ("dark blue", "navy"),
        },
        "motion": both(
            candle_captions.MOTIONS,
            candle_captions.UNSEEN_MOTIONS,
            {motion: tuple(sum(forms, ())) for motion, forms in candle_captions.FINITE.items()},
        ),
    },
    "rockets": {
        "backdrop": WHEN,
        "place": {place: WHERE[place] for place in ("city", "hills")},
        "colour": rocket_captions.COLOURS,
        "size": both(rocket_captions.SIZES, rocket_captions.UNSEEN_SIZES),
    },
    "pendulums": {
        "speed": both(pendulum_captions.SPEEDS, pendulum_captions.UNSEEN_SPEEDS),
        "size": both(pendulum_captions.SIZES, pendulum_captions.UNSEEN_SIZES),
        "colour": {
            name: tuple(f"{word} {noun}" for word in words for noun in ("pendulum", "weight", "bob", "ball"))
            for name, words in shape_captions.COLOUR_WORDS.items()
        },
    },
}


@pytest.mark.parametrize("split", ["seen", "unseen-wordings"])
@pytest.mark.parametrize("family", CLAIMS)
def test_captions_are_true(family, split):
    """A caption that holds a phrase for some value of a fact holds one for the true value."""
    claimed = set()
    for clip in told(family, 150, split=split):
        for caption, (key, table) in itertools.product(clip.captions, CLAIMS[family].items()):
            said = {value for value, phrases in table.items() if any(f" {p} " in f" {caption} " for p in phrases)}
            truth = clip.facts[key] if key in clip.facts else clip.facts["subjects"][0][key]
            assert not said or truth in said, caption
            claimed |= {(key, value) for value in said}
    for key, table in CLAIMS[family].items():
        assert {value for of, value in claimed if of == key} == set(table)


@pytest.mark.parametrize("family", CLAIMS)
@pytest.mark.parametrize(("num_frames", "fps"), [(4, 1), (4, 50), (24, 30), (60, 2)])
def test_every_family_moves_at_any_frame_count_and_rate(family, num_frames, fps):
    for clip in clips(family, 4, size=16, num_frames=num_frames, fps=fps):
        assert clip.frames.shape == (num_frames, 16, 16, 3)
        assert (np.abs(np.diff(clip.frames.astype(int), axis=0)).max(axis=(1, 2, 3)) > 8).any()
