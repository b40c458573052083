"""What the network is shown at each step, as a function of (seed, step, place) alone.

A place of a batch shows a clip, or as many pictures as a clip has frames, stills or frames of any clips: so each place
costs the same.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from t2v.config import WindowName
from t2v.data.stream import StreamedClips
from t2v.diffusion.timesteps import timestep_at
from t2v.runtime import generator
from t2v.training.order import clip_index, streamed_index


@dataclass(frozen=True)
class MappedClips:
    """n clips as tensors, f h w c uint8, each read from where it lies at the moment that it is asked for."""

    rows: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int | tuple[int, slice]) -> Tensor:
        """A clip by its number, or with a slice behind it those of its frames alone."""
        index, frames = at if isinstance(at, tuple) else (at, slice(None))
        # A copy of what may be a file: torch knows no tensor that must not be written to.
        return torch.from_numpy(self.rows[index][frames].copy())


@dataclass(frozen=True)
class TrainingClips:
    """All that batches are drawn from.

    frames: n clips f h w c, uint8; each of one frame (a still) or of at least num_frames, or the most of lengths
    captions: for each clip the rows of `pooled` that describe it, -1 for no text; empty where it has no caption
    keeps_side: for each row of `pooled`, whether the caption says left or right
    pooled: m d, one row a caption; None for an unconditional model
    weights: by clip, how often each of its captions is drawn, relative to the others; of those drawn alike none
    num_frames: of a window, which is what the network sees of a clip; None where it sees all of each
    lengths: fewest and most frames of a window, of which each step takes a number; None where it is num_frames always
    is_spread: whether a window of fewer frames than there are spans the clip's time, or shows a part frame by frame
    window: where a clip of more frames is looked into: at its head, at random each time it comes up, or at every one of
        the windows that cover it, each an example of its own
    still_share: of the places, in [0, 1), those that show stills as clips of one frame; None shows a still as a clip
        that stands still
    frame_share: of the places, in [0, 1), those that show single frames of clips as if they were stills
    tokens: for each row of `pooled` the caption's tokens, l d; None where no network reads them
    times: ms of each clip, or with is_spread false of each frame of it; None where the network is not told
    """

    frames: Tensor | MappedClips
    captions: Sequence[Sequence[int]]
    keeps_side: Sequence[bool]
    pooled: Tensor | None
    weights: Mapping[int, Sequence[float]] = field(default_factory=dict)
    num_frames: int | None = None
    lengths: tuple[int, int] | None = None
    is_spread: bool = False
    window: WindowName = "random"
    still_share: float | None = None
    frame_share: float = 0.0
    tokens: Sequence[np.ndarray] | None = None
    times: Sequence[float] | None = None

    @cached_property
    def windows(self) -> np.ndarray:
        """What an epoch shows once: n 2, a clip and the first frame of its window, unless that is drawn at each visit.

        Stills are not among them where they have places of their own.
        """
        return np.array(
            [
                (index, start)
                for index in range(len(self.frames))
                if self.still_share is None or self.length(index) > 1
                for start in _window_starts(self.length(index), self.most_frames or self.length(index), self.window)
            ]
        )

    @cached_property
    def stills(self) -> Sequence[int]:
        """The clips that have places of their own."""
        if self.still_share is None:
            return []
        return [index for index in range(len(self.frames)) if self.length(index) == 1]

    @property
    def most_frames(self) -> int | None:
        """Of the longest window."""
        return self.num_frames if self.lengths is None else self.lengths[1]

    def frames_at(self, *, seed: int, step: int) -> int | None:
        """Frames of the windows of a step: one number for all, as they go through the network together."""
        if self.lengths is None:
            return self.num_frames
        fewest, most = self.lengths
        return int(torch.randint(fewest, most + 1, (), generator=generator("length", seed, step)))

    def length(self, index: int) -> int:
        """Frames of a clip, none of which is read for it."""
        return self.frames.shape[1] if isinstance(self.frames, Tensor) else len(self.frames.rows[index])

    @cached_property
    def num_tokens(self) -> int:
        """Of the longest caption: room for so many is in every batch, as numbers that vary would be compiled anew."""
        return max(map(len, self.tokens or ()), default=0)

    @property
    def picture_share(self) -> float:
        """Of the places, those that show pictures: stills, and frames of clips."""
        return (self.still_share or 0.0) + self.frame_share

    @property
    def stream(self) -> StreamedClips | None:
        """Where the clips come from if they are decoded as they are drawn."""
        rows = self.frames.rows if isinstance(self.frames, MappedClips) else None
        return rows if isinstance(rows, StreamedClips) else None

    def example(self, *, seed: int, drawn_before: int) -> tuple[int, int]:
        """Which clip comes after `drawn_before` others, and the first frame of its window, unless that is drawn."""
        if self.stream is not None:
            return streamed_index(self.stream.sizes, seed=seed, drawn_before=drawn_before), 0
        index, start = self.windows[clip_index(len(self.windows), seed=seed, drawn_before=drawn_before)].tolist()
        return index, start

    def whole(self, index: int) -> int:
        """The clip itself, or the one that takes its place because it cannot be decoded."""
        return index if self.stream is None else self.stream.resolve(index)


@dataclass(frozen=True)
class Batch:
    """b clips of equal length with their noise levels.

    x0, noise: b c f h w, x0 in [-1, 1]; t: b; text as the network takes it
    share: of the places that were drawn, those that are in it
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    text: dict[str, Tensor] | None
    share: float = 1.0

    @property
    def num_frames(self) -> int:
        return self.x0.shape[2]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device, save t: the schedule's tables lie on the CPU."""
        text = None if self.text is None else {key: value.to(device) for key, value in self.text.items()}
        return Batch(self.x0.to(device), self.noise.to(device), self.t, text, self.share)


def draw_batch(
    clips: TrainingClips,
    *,
    seed: int,
    step: int,
    places: range,
    global_batch: int,
    num_timesteps: int,
    flip_prob: float,
    drop_prob: float,
    probabilities: Tensor | None = None,
    halved: bool = False,
) -> tuple[Batch, ...]:
    """The clips at `places` of the global batch of `step`, and the pictures there as a batch of clips of one frame.

    Of the two only those that are there: a range of places may show clips alone, or pictures alone.
    probabilities: of each timestep to be drawn, num_timesteps of sum 1; None draws all alike
    halved: show everything at half its width and height, its pixels averaged in fours
    The global batch spans all processes and passes of one optimizer step, so that how it is split over them changes
    nothing about what is learned from.
    """
    shown: list[_Drawn] = []
    pictures: list[_Drawn] = []
    num_picture_places, num_frames = 0, clips.frames_at(seed=seed, step=step)
    for place, spot in zip(places, _spots(seed, step, places, global_batch), strict=True):
        turn = step * global_batch + place
        pictures_before = int(turn * clips.picture_share)
        at = (seed, step, place)
        if int((turn + 1) * clips.picture_share) > pictures_before:
            num_picture_places += 1
            drawn = _pictures(clips, pictures_before, at)
            pictures += _draw_pictures(clips, drawn, at, spot, flip_prob=flip_prob, drop_prob=drop_prob)
            continue
        index, start = clips.example(seed=seed, drawn_before=turn - pictures_before)
        index = clips.whole(index)
        frames, draw = _frames_of(clips, index, start, at, num_frames), generator("clip", *at)
        shown.append(_draw_clip(clips, index, frames, spot, draw=draw, flip_prob=flip_prob, drop_prob=drop_prob))
    picture_share = num_picture_places / len(places)
    return tuple(
        _batch(clips, drawn, share, num_timesteps, probabilities, halved=halved)
        for drawn, share in ((shown, 1 - picture_share), (pictures, picture_share))
        if drawn
    )


@dataclass(frozen=True)
class _Drawn:
    frames: Tensor  # f h w c, uint8
    caption: int  # row of the captions' features; -1 where the text is hidden or missing
    spot: float  # where in all the probability of timesteps, [0, 1), its own lies
    interval: float  # ms from frame to frame; 0 where it is not told, or there is one frame
    draw: torch.Generator  # where the clip's noise comes from next


def _batch(
    clips: TrainingClips,
    drawn: Sequence[_Drawn],
    share: float,
    num_timesteps: int,
    probabilities: Tensor | None,
    *,
    halved: bool,
) -> Batch:
    x0 = to_float(torch.stack([clip.frames for clip in drawn]))
    if halved:
        x0 = avg_pool3d(x0, (1, 2, 2))
    noise = torch.empty_like(x0)
    for clip, into in zip(drawn, noise, strict=True):
        torch.randn(into.shape, generator=clip.draw, out=into)
    text = None
    if clips.pooled is not None:
        text = {
            "pooled": torch.stack([clips.pooled[max(clip.caption, 0)] for clip in drawn]),
            "is_null": torch.tensor([clip.caption < 0 for clip in drawn]),
        }
        if clips.times is not None:
            text["interval"] = torch.tensor([clip.interval for clip in drawn])
        if clips.tokens is not None:
            text |= _padded([clips.tokens[max(clip.caption, 0)] for clip in drawn], clips.num_tokens)
    t = torch.tensor([timestep_at(clip.spot, probabilities, num_timesteps) for clip in drawn])
    return Batch(x0=x0, noise=noise, t=t, text=text, share=share)


def _draw_clip(
    clips: TrainingClips,
    index: int,
    frames: Tensor,
    spot: float,
    *,
    draw: torch.Generator,
    flip_prob: float,
    drop_prob: float,
) -> _Drawn:
    coin, caption_coin, drop_coin = torch.rand(3, generator=draw).tolist()
    caption = _pick_caption(clips.captions[index], clips.weights.get(index), caption_coin)
    # One coin per clip: flipping frames separately would break the motion.
    if coin < flip_prob and not (caption >= 0 and clips.keeps_side[caption]):
        frames = frames.flip(-2)
    return _Drawn(frames, -1 if drop_coin < drop_prob else caption, spot, _interval(clips, index, len(frames)), draw)


def _interval(clips: TrainingClips, index: int, num_frames: int) -> float:
    if clips.times is None or num_frames == 1:
        return 0.0
    return clips.times[index] / (num_frames if clips.is_spread else 1)


def _pictures(clips: TrainingClips, places_before: int, at: tuple[int, int, int]) -> Iterator[tuple[int, Tensor]]:
    """What a place shows one by one: a clip's number and one frame of it, 1 h w c.

    places_before: those that pictures had before this one; at: seed, step and place
    """
    assert clips.num_frames is not None
    share = clips.frame_share / clips.picture_share
    frame_places_before = int(places_before * share)
    are_frames = int((places_before + 1) * share) > frame_places_before
    source = range(len(clips.frames)) if are_frames else clips.stills
    places_before = frame_places_before if are_frames else places_before - frame_places_before
    for number in range(clips.num_frames):
        drawn_before = places_before * clips.num_frames + number
        index = source[clip_index(len(source), seed=at[0], drawn_before=drawn_before)]
        draw = generator("frame", *at, number)
        which = int(torch.randint(clips.length(index), (), generator=draw)) if are_frames else 0
        yield index, clips.frames[index, slice(which, which + 1)]


def _draw_pictures(
    clips: TrainingClips,
    pictures: Iterable[tuple[int, Tensor]],
    at: tuple[int, int, int],
    spot: float,
    *,
    flip_prob: float,
    drop_prob: float,
) -> Iterator[_Drawn]:
    """The pictures of one place, each with a caption, a timestep and noise of its own. at: seed, step and place"""
    assert clips.num_frames is not None
    for number, (index, frame) in enumerate(pictures):
        yield _draw_clip(
            clips,
            index,
            frame,
            (number + spot) / clips.num_frames,  # the pictures of a place cover the range of timesteps evenly
            draw=generator("still", *at, number),
            flip_prob=flip_prob,
            drop_prob=drop_prob,
        )


def _frames_of(
    clips: TrainingClips, index: int, start: int, at: tuple[int, int, int], num_frames: int | None
) -> Tensor:
    """The window of a clip that is shown, f h w c. start: where its example begins; at: seed, step and place"""
    if num_frames is None:
        return clips.frames[index]
    length = clips.length(index)
    if length == 1:
        return clips.frames[index].expand(num_frames, -1, -1, -1)
    if clips.is_spread:
        midpoints = (torch.arange(num_frames) + 0.5) * length / num_frames
        return clips.frames[index][midpoints.long()] if num_frames < length else clips.frames[index]
    match clips.window:
        case "head":
            free = 0
        case "random":
            free = length - num_frames
        case "every":  # its windows are of the most frames: of fewer a part is shown
            free = min(clips.most_frames or num_frames, length) - num_frames
    if free > 0:
        # A generator of its own: what else is drawn for the place is the same for clips of any length.
        start += int(torch.randint(free + 1, (), generator=generator("window", *at)))
    return clips.frames[index, slice(start, start + num_frames)]


def _window_starts(length: int, num_frames: int, window: WindowName) -> list[int]:
    """First frames of the windows of a clip that are examples of their own."""
    last = length - num_frames
    # End to end from the first frame on; the last window is flush with the clip's end.
    return [*range(0, last, num_frames), last] if window == "every" and last > 0 else [0]


def _padded(tokens: Sequence[np.ndarray], length: int) -> dict[str, Tensor]:
    """Tokens of b captions, each of its own number of d, as `tokens` b length d float32 and `mask` b length."""
    mask = torch.zeros(len(tokens), length, dtype=torch.bool)
    values = torch.zeros(*mask.shape, tokens[0].shape[1])
    for row, caption in enumerate(tokens):
        values[row, : len(caption)] = torch.from_numpy(caption.astype(np.float32))
        mask[row, : len(caption)] = True
    return {"tokens": values, "mask": mask}


def _pick_caption(rows: Sequence[int], weights: Sequence[float] | None, coin: float) -> int:
    """One of the rows, -1 where there is none. coin: uniform in [0, 1)"""
    if not rows:
        return -1
    if weights is None:
        return rows[int(coin * len(rows))]
    ends = list(accumulate(weights))
    return rows[bisect_right(ends, coin * ends[-1])]


def _spots(seed: int, step: int, places: range, global_batch: int) -> list[float]:
    """Where in all the probability of timesteps, [0, 1), those of the clips at `places` are drawn.

    Evenly spread over the global batch from one random offset: uniform for each clip, with less variance in the loss
    than independent draws (Kingma et al. 2021, appendix I.1).
    """
    # The places are shuffled, or the first clip of a batch would always meet the least noise of the spread.
    draw = generator("timesteps", seed, step)
    offset = torch.rand((), generator=draw, dtype=torch.float64).item()
    slots = torch.randperm(global_batch, generator=draw).tolist()
    return [(slots[place] + offset) / global_batch for place in places]


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames ... f h w c as ... c f h w in [-1, 1]."""
    # Bytes are put in order first: as float32 there are four times as many to move.
    ordered = frames.movedim(-1, -4).clone(memory_format=torch.contiguous_format)
    return ordered.float().div_(127.5).sub_(1.0)
