"""Worlds: drawn clips with true captions, each a function of its seed and index alone (`t2v worlds`)."""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.data.video_files import write_clip
from t2v.data.worlds import firework_captions, fireworks, shape_captions, shapes
from t2v.data.worlds.canvas import Clock
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
    facts: family, number, backdrop, and for each subject its subject, colour, size and motion; as JSON has it
    """

    frames: NDArray[np.uint8]
    captions: tuple[str, ...]
    facts: dict[str, Any]


class Family(NamedTuple):
    """One kind of world.

    share: its share of a data set of all families, relative to the others
    plan: draws a scene, which the other functions read
    draw: scene, clock and size in pixels to uint8 f h w 3
    """

    share: float
    plan: Callable[[np.random.Generator], Any]
    draw: Callable[[Any, Clock, int], NDArray[np.uint8]]
    facts: Callable[[Any], dict[str, Any]]
    captions: Callable[[Any, np.random.Generator], tuple[str, ...]]
    words: Callable[[], set[str]]


FAMILIES: dict[str, Family] = {
    "shapes": Family(0.55, shapes.plan, shapes.draw, shapes.facts, shape_captions.captions, shape_captions.words),
    "fireworks": Family(
        0.45, fireworks.plan, fireworks.draw, fireworks.facts, firework_captions.captions, firework_captions.words
    ),
}


class _Story(NamedTuple):
    """A clip before it is drawn."""

    family: str
    scene: Any
    captions: tuple[str, ...]


def draw_world(
    seed: int,
    index: int,
    *,
    size: int = 64,
    num_frames: int = 10,
    fps: float = 8.0,
    families: Sequence[str] | None = None,
) -> WorldClip:
    """Draw clip `index` of the world `seed`.

    The scene and its captions follow from seed, index and families alone; size, num_frames and fps only say how it is
    looked at. What happens once (a journey, a burst) fills the clip; what repeats (a bounce, a blink, a turn) keeps its
    pace in seconds as far as the frames can show it.

    seed, index: from 0 up; size: pixels; num_frames: at least 4; families: names from FAMILIES, None for all
    Raises SettingsError for an unknown family or too few frames.
    """
    if num_frames < MIN_FRAMES:
        raise SettingsError(f"{num_frames} frames cannot show a motion; ask for {MIN_FRAMES} or more")
    family, scene, captions = _story(seed, index, _known(families))
    frames = FAMILIES[family].draw(scene, Clock(num_frames, fps), size)
    return WorldClip(frames, captions, {"family": family, **FAMILIES[family].facts(scene)})


def write_worlds(
    folder: Path,
    *,
    num_clips: int,
    seed: int = 0,
    size: int = 64,
    num_frames: int = 10,
    fps: float = 8.0,
    families: Sequence[str] | None = None,
    start: int = 0,
    num_workers: int = 1,
) -> Iterator[int]:
    """Write clips `start` to `start + num_clips - 1` as GIFs, each beside a .txt with one caption a line.

    Yields the number of clips written, after each. A second call with the same seed and families writes the same clips
    again or adds to them. num_workers: processes that draw; more than one needs a main module that can be imported.
    Raises DatasetError, before anything is written, if the folder holds anything else.
    """
    names = _known(families)
    _check_is_ours(folder, seed, names)
    folder.mkdir(parents=True, exist_ok=True)
    write = partial(_write_one, folder, seed=seed, size=size, num_frames=num_frames, fps=fps, families=names)
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


def caption_words() -> list[str]:
    """Every word that a caption can hold, in alphabetical order."""
    return sorted(set().union(*(family.words() for family in FAMILIES.values())))


def _story(seed: int, index: int, families: tuple[str, ...]) -> _Story:
    shares = np.array([FAMILIES[name].share for name in families])
    # Streams of their own for family, scene and captions: a new wording never changes a picture.
    which, scene_rng, caption_rng = (np.random.default_rng([seed, index, stream]) for stream in range(3))
    name = families[int(which.choice(len(families), p=shares / shares.sum()))]
    scene = FAMILIES[name].plan(scene_rng)
    return _Story(name, scene, FAMILIES[name].captions(scene, caption_rng))


def _write_one(
    folder: Path, index: int, *, seed: int, size: int, num_frames: int, fps: float, families: tuple[str, ...]
) -> None:
    clip = draw_world(seed, index, size=size, num_frames=num_frames, fps=fps, families=families)
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


def _check_is_ours(folder: Path, seed: int, families: tuple[str, ...]) -> None:
    """Raise DatasetError unless every file in the folder, hidden ones aside, is one that these worlds write."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; name a folder for the clips")
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if not path.name.startswith(".") and not _is_ours(path, seed, families):
            raise DatasetError(
                f"{folder} holds {path.name}, which is not of these clips; name an empty or a new folder"
            )


def _is_ours(path: Path, seed: int, families: tuple[str, ...]) -> bool:
    match = re.fullmatch(r"([a-z]+)-(\d{5,})\.(gif|txt)", path.name)
    if match is None:
        return False
    story = _story(seed, int(match[2]), families)
    says_the_same = path.suffix == ".gif" or path.read_bytes() == _caption_text(story.captions).encode()
    return story.family == match[1] and says_the_same


def _caption_text(captions: tuple[str, ...]) -> str:
    return "".join(f"{caption}\n" for caption in captions)
