"""Worlds: drawn clips with true captions, each a function of its seed and index alone (`t2v worlds`).

The facts of every clip are family, number (of things there are to count), backdrop and subjects; each of the subjects
has subject, colour, size and motion. Their values, and what some have besides:

family     number  backdrop  subject    colour           size             motion               besides
shapes     1, 2    a ground  4 shapes   8, if they show  small, medium,   left, right, up,
                                                         large, changing  down, grow, shrink,
                                                                          bounce, blink, spin
                                                                          (not the circle)
fireworks  1 to 5  a sky     fireworks  red, green,      changing         burst                place: any
                                        blue (not by
                                        day), purple,
                                        gold, white
weather    1       a sky     rain,      white            small            down                 amount: light, heavy
                             snow                                                              wind: none, left,
                                                                                               right; place: any
suns       1       orange,   sun        yellow, red,     small, large     up (it rises),       place: city, hills,
                   pink,                orange (not on                    down (it sets)       water
                   purple               orange)
waves      1       a sky     waves      blue, green,     small, large     left, right
                                        grey
candles    1 to 3  black,    candle     of its wax:      small, large     flicker, light up,
                   brown,               white, red,                       go out
                   dark                 green, blue,
                   blue                 purple, yellow
rockets    1       a sky     rocket     7, if they show  small, large     up                   place: city, hills,
                                                                                               nowhere
pendulums  1       a ground  pendulum   8, if they show  small, large     swing                in the subject,
                                                                                               speed: slow, fast

Shapes are circle, square, triangle and star; grounds black, white, grey, dark blue and cream; the 8 colours red, green,
blue, yellow, orange, purple, white and black (7 without black), where they stand out from what is behind; skies night,
dusk and day; places nowhere, city, hills and water. Every burst and every candle is a subject, size and colour of a
pendulum are those of its weight.

What is held out from training, combinations and wordings, is decided in `held_out.py` and by the tables named UNSEEN.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.config import SplitName
from t2v.data.video_files import write_clip
from t2v.data.worlds import (
    candle_captions,
    candles,
    firework_captions,
    fireworks,
    pendulum_captions,
    pendulums,
    rocket_captions,
    rockets,
    shape_captions,
    shapes,
    sun_captions,
    suns,
    wave_captions,
    waves,
    weather,
    weather_captions,
)
from t2v.data.worlds.canvas import Clock
from t2v.data.worlds.grammar import Voice, wordings
from t2v.data.worlds.held_out import shows_held_out
from t2v.errors import DatasetError, SettingsError

MIN_FRAMES = 4  # fewer cannot show something blink or bounce

EXAMPLE_PROMPTS = (
    "fireworks at night",
    "green fireworks burst in the night sky",
    "three golden fireworks over the city at dusk",
    "red fireworks in the blue sky",
    "colourful fireworks light up the night sky",
    "a red circle moving left",
    "a large blue square spinning on a white background",
    "a yellow star growing",
    "a green ball bouncing",
    "an orange triangle moves up while a white circle blinks",
)


class WorldClip(NamedTuple):
    """One clip and what is true of it.

    frames: uint8 f h w 3
    captions: one to three, each true on its own
    facts: what is true of it, in the words of the module's table; as JSON has it
    """

    frames: NDArray[np.uint8]
    captions: tuple[str, ...]
    facts: dict[str, Any]


class Family(NamedTuple):
    """One kind of world.

    share: its share of a data set of all families, relative to the others
    plan: draws a scene, which the other functions read
    draw: scene, clock and size in pixels to uint8 f h w 3
    facts: what is true of a scene, all but the family
    sentence: a true caption of a scene, in the words that the voice chooses
    words: every word that a caption can hold, held-out wordings among them
    """

    share: float
    plan: Callable[[np.random.Generator], Any]
    draw: Callable[[Any, Clock, int], NDArray[np.uint8]]
    facts: Callable[[Any], dict[str, Any]]
    sentence: Callable[[Any, Voice], str]
    words: Callable[[], set[str]]


def _family(share: float, scenes: Any, captions: Any) -> Family:
    """A family from its two modules."""
    return Family(share, scenes.plan, scenes.draw, scenes.facts, captions.sentence, captions.words)


FAMILIES: dict[str, Family] = {
    "shapes": _family(0.40, shapes, shape_captions),
    "fireworks": _family(0.20, fireworks, firework_captions),
    "weather": _family(0.10, weather, weather_captions),
    "suns": _family(0.08, suns, sun_captions),
    "waves": _family(0.06, waves, wave_captions),
    "candles": _family(0.06, candles, candle_captions),
    "rockets": _family(0.05, rockets, rocket_captions),
    "pendulums": _family(0.05, pendulums, pendulum_captions),
}


class _World(NamedTuple):
    """All clips of one seed."""

    seed: int
    families: tuple[str, ...]
    split: SplitName


class _Story(NamedTuple):
    """A clip before it is drawn."""

    family: str
    scene: Any
    facts: dict[str, Any]
    captions: tuple[str, ...]


def draw_world(
    seed: int,
    index: int,
    *,
    size: int = 64,
    num_frames: int = 10,
    fps: float = 8.0,
    families: Sequence[str] | None = None,
    split: SplitName = "all",
) -> WorldClip:
    """Draw clip `index` of the world `seed`.

    The scene and its captions follow from seed, index, families and split alone; size, num_frames and fps only say how
    it is looked at. What happens once (a journey, a burst) fills the clip; what repeats (a bounce, a blink, a turn)
    keeps its pace in seconds as far as the frames can show it.

    seed, index: from 0 up; size: pixels; num_frames: at least 4; families: names from FAMILIES, None for all
    split: "seen" for clips to train on, without held-out combinations and wordings; "unseen-combinations" and
        "unseen-wordings" for clips of what that leaves out, one kind at a time; "all" for any combination
    Raises SettingsError for an unknown family or too few frames.
    """
    if num_frames < MIN_FRAMES:
        raise SettingsError(f"{num_frames} frames cannot show a motion; ask for {MIN_FRAMES} or more")
    family, scene, facts, captions = _story(_World(seed, _known(families), split), index)
    return WorldClip(FAMILIES[family].draw(scene, Clock(num_frames, fps), size), captions, facts)


def write_worlds(
    folder: Path,
    *,
    num_clips: int,
    seed: int = 0,
    size: int = 64,
    num_frames: int = 10,
    fps: float = 8.0,
    families: Sequence[str] | None = None,
    split: SplitName = "seen",
    start: int = 0,
    num_workers: int = 1,
) -> Iterator[int]:
    """Write clips `start` to `start + num_clips - 1` as GIFs, each beside a .txt with one caption a line.

    Yields the number of clips written, after each. A second call with the same seed, families and split writes the same
    clips again or adds to them. split: as of `draw_world`, but by default without what is held out.
    num_workers: processes that draw; more than one needs a main module that can be imported.
    Raises DatasetError, before anything is written, if the folder holds anything else.
    """
    world = _World(seed, _known(families), split)
    _check_is_ours(folder, world)
    folder.mkdir(parents=True, exist_ok=True)
    write = partial(_write_one, folder, world, size=size, num_frames=num_frames, fps=fps)
    indices = range(start, start + num_clips)
    if num_workers == 1:
        for written, index in enumerate(indices, start=1):
            write(index)
            yield written
        return
    # Spawned, not forked: a fork would copy the locks of whatever threads the caller has running.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        try:
            for written, _ in enumerate(pool.map(write, indices, chunksize=8), start=1):
                yield written
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def plan_scene(family: str, rng: np.random.Generator, split: SplitName) -> tuple[Any, dict[str, Any]]:
    """Plan a scene of a family and a split, with its facts.

    A scene that is not of the split is drawn anew from the same stream: so there is a clip for every index, and where
    the first scene is of the split it is the one that the index shows without splits.
    """
    while True:
        scene = FAMILIES[family].plan(rng)
        facts = {"family": family, **FAMILIES[family].facts(scene)}
        if split == "all" or shows_held_out(facts) == (split == "unseen-combinations"):
            return scene, facts


def caption_words() -> list[str]:
    """Every word that a caption can hold, in alphabetical order."""
    return sorted(set().union(*(family.words() for family in FAMILIES.values())))


def _story(world: _World, index: int) -> _Story:
    shares = np.array([FAMILIES[name].share for name in world.families])
    # Streams of their own for family, scene and captions: a new wording never changes a picture.
    which, scene_rng, caption_rng = (np.random.default_rng([world.seed, index, stream]) for stream in range(3))
    name = world.families[int(which.choice(len(shares), p=shares / shares.sum()))]
    family = FAMILIES[name]
    scene, facts = plan_scene(name, scene_rng, world.split)
    captions = wordings(caption_rng, partial(family.sentence, scene), unseen=world.split == "unseen-wordings")
    return _Story(name, scene, facts, captions)


def _write_one(folder: Path, world: _World, index: int, *, size: int, num_frames: int, fps: float) -> None:
    seed, families, split = world
    clip = draw_world(seed, index, size=size, num_frames=num_frames, fps=fps, families=families, split=split)
    stem = folder / f"{clip.facts['family']}-{index:05d}"
    # The caption first: a clip cut off by a kill is then never one without words.
    stem.with_suffix(".txt").write_bytes(_caption_text(clip.captions).encode())
    write_clip(stem.with_suffix(".gif"), clip.frames, frame_ms=1000 / fps, metadata=None)


def _known(families: Sequence[str] | None) -> tuple[str, ...]:
    """The families asked for, in the order of the table, so that the order they are named in changes nothing."""
    asked = tuple(FAMILIES) if families is None else tuple(families)
    unknown = [name for name in asked if name not in FAMILIES]
    if unknown or not asked:
        given = f"unknown family {unknown[0]!r}" if unknown else "no family of worlds named"
        raise SettingsError(f"{given}; known are {', '.join(FAMILIES)}")
    return tuple(name for name in FAMILIES if name in asked)


def _check_is_ours(folder: Path, world: _World) -> None:
    """Raise DatasetError unless every file in the folder, hidden ones aside, is one that these worlds write."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; name a folder for the clips")
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if not path.name.startswith(".") and not _is_ours(path, world):
            raise DatasetError(
                f"{folder} holds {path.name}, which is not of these clips; name an empty or a new folder"
            )


def _is_ours(path: Path, world: _World) -> bool:
    match = re.fullmatch(r"([a-z]+)-(\d{5,})\.(gif|txt)", path.name)
    if match is None:
        return False
    story = _story(world, int(match[2]))
    says_the_same = path.suffix == ".gif" or path.read_bytes() == _caption_text(story.captions).encode()
    return story.family == match[1] and says_the_same


def _caption_text(captions: tuple[str, ...]) -> str:
    return "".join(f"{caption}\n" for caption in captions)
