"""The real clips that a model is held against: those it was not trained on, and those it was."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from t2v.config import DataSettings, FamilyName, GenerationSettings
from t2v.data.folder import LoadedClips, count, load_clips, with_template
from t2v.data.pixels import Pixels
from t2v.data.shards import find_shards
from t2v.data.split import split_loaded
from t2v.data.video_files import encode_clip
from t2v.data.worlds import MIN_FRAMES, draw_world
from t2v.errors import DatasetError, SettingsError
from t2v.evaluate.questions import spread_order
from t2v.evaluate.request import FAMILY_NAMES, EvaluationRequest
from t2v.service import MAX_FPS, GenerationService

TRAINED_SEED = 0  # the seed that `t2v worlds` takes by itself
HELD_OUT_SEED = 1_000_003  # of worlds that nobody trains on

Say = Callable[[str], None]


@dataclass(frozen=True)
class RealClips:
    """Clips as training sees them. frames: each uint8 f h w c; captions: one each, empty where a clip has none"""

    frames: Sequence[np.ndarray]
    captions: Sequence[str]

    def __len__(self) -> int:
        return len(self.frames)

    def first(self, number: int) -> "RealClips":
        """The first few of them."""
        return RealClips(self.frames[:number], self.captions[:number])


@dataclass
class RealData:
    """What is known of real clips, in sentences too.

    held_out: never trained on, unless `is_trained_on`; known: of training
    """

    held_out: RealClips
    known: RealClips
    is_trained_on: bool
    about: str


def read_real(
    service: GenerationService, request: EvaluationRequest, used: GenerationSettings, *, cache: Path | None, say: Say
) -> Iterator[int | RealData]:
    """The real clips at the size and length that clips are drawn at: the number read so far, and the clips last.

    Raises SettingsError or DatasetError where there are none.
    """
    recipe = service.header.recipe
    data = recipe.data.model_copy(update={"size": used.size, "num_frames": used.num_frames, "lengths": None})
    pixels = Pixels.of(data, recipe.limits)
    if request.clips is None:
        yield from _worlds(request, used, pixels, num_trained=service.header.num_clips)
        return
    loaded = _loaded(request.clips, pixels, recipe.text.template, cache, say)
    if request.held_out is not None:
        others = _loaded(request.held_out, pixels, recipe.text.template, cache, say)
        known, held_out = _windows(loaded, data), _windows(others, data, first_only=True)
        about = f"{request.held_out}, against the clips of {request.clips}"
        if not len(held_out):
            raise DatasetError(f"no clip of {request.held_out} is longer than a still; name clips that move")
    else:
        split = split_loaded(loaded, data.hold_out)
        known = _windows(_some(loaded, split.training), data)
        held_out = _windows(_some(loaded, split.held_out), data, first_only=True)
        about = f"those of {request.clips} that training held out ({data.hold_out:.1%})"
    is_trained_on = not len(held_out)
    if is_trained_on:
        held_out = _windows(loaded, data, first_only=True)
        about = f"{request.clips}, trained on: none that moves was held out"
    if not len(held_out):
        raise DatasetError(f"no clip of {request.clips} is longer than a still; give clips that move")
    yield RealData(_spread(held_out, request.num_held_out), _spread(known, request.num_known), is_trained_on, about)


def _worlds(
    request: EvaluationRequest, used: GenerationSettings, pixels: Pixels, *, num_trained: int
) -> Iterator[int | RealData]:
    if pixels.num_frames < MIN_FRAMES or pixels.channels != 3:
        raise SettingsError(
            f"worlds are clips of at least {MIN_FRAMES} frames in colour, and this model's have {pixels.num_frames} "
            f"and {pixels.channels} channels; name a folder of clips with --clips"
        )
    num_known = min(request.num_known, num_trained)
    done = 0
    sets = []
    for seed, number in ((HELD_OUT_SEED, request.num_held_out), (TRAINED_SEED, num_known)):
        frames, captions = [], []
        for index in range(number):
            frame, caption = _world(seed, index, used, pixels, request.families)
            frames.append(frame)
            captions.append(caption)
            done += 1
            yield done
        sets.append(RealClips(frames, captions))
    families = "" if request.families == FAMILY_NAMES else f" of {', '.join(request.families)}"
    about = (
        f"worlds{families} of seed {HELD_OUT_SEED:,}, which nobody trains on, against {count(num_known, 'clip')} of "
        f"seed {TRAINED_SEED}, as if the model were trained on those; --clips FOLDER names the true ones"
    )
    yield RealData(sets[0], sets[1], False, about)


def _world(
    seed: int, index: int, used: GenerationSettings, pixels: Pixels, families: Sequence[FamilyName]
) -> tuple[np.ndarray, str]:
    """A clip of the worlds as training sees it, and its first caption."""
    assert used.fps is not None
    fps = min(used.fps, MAX_FPS)
    drawn = draw_world(
        seed,
        index,
        size=pixels.size,
        num_frames=pixels.num_frames,
        fps=fps,
        families=families,
        split="seen",
    )
    # Training met it as a GIF of 256 colours a frame, which costs a likelihood more than any difference of models.
    whole = replace(pixels, fps=None)
    _, frames = whole.decode([encode_clip(drawn.frames, ".gif", frame_ms=1000 / fps)])
    assert frames is not None
    return frames, drawn.captions[0]


def _loaded(folder: Path, pixels: Pixels, template: str, cache: Path | None, say: Say) -> LoadedClips:
    if find_shards(folder):
        raise SettingsError(f"{folder} are shards; name a folder of clips, such as those that they were packed from")
    loaded = load_clips(folder, pixels, cache=cache, say=say)
    for item in loaded.left_out:
        say(f"left out: {item.key} {item.reason}")
    return replace(loaded, scan=with_template(loaded.scan, template))


def _some(loaded: LoadedClips, places: Sequence[int]) -> LoadedClips:
    scan = replace(loaded.scan, clips=tuple(loaded.records[place] for place in places))
    return LoadedClips(scan, [loaded.frames[place] for place in places], loaded.num_decoded)


def _windows(loaded: LoadedClips, data: DataSettings, *, first_only: bool = False) -> RealClips:
    """What the model may have seen of clips, end to end; stills are left out of a model of moving clips."""
    frames, captions = [], []
    for record, rows in zip(loaded.records, loaded.frames, strict=True):
        if len(rows) < data.num_frames:
            continue
        last = len(rows) - data.num_frames
        starts = [0] if first_only else sorted({*range(0, last + 1, data.num_frames), last})
        frames += [rows[start : start + data.num_frames] for start in starts]
        captions += [record.captions[0] if record.captions else ""] * len(starts)
    return RealClips(frames, captions)


def _spread(clips: RealClips, most: int) -> RealClips:
    """At most so many, evenly spread; fewer are some of what more would be."""
    places = spread_order(range(len(clips)))[:most]
    return RealClips([clips.frames[place] for place in places], [clips.captions[place] for place in places])
