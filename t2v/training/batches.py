"""What the network is shown at each step, as a function of (seed, step, place) alone."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from t2v.data.stream import StreamedClips
from t2v.diffusion.timesteps import timestep_at
from t2v.runtime import generator

SHARDS_AT_ONCE = 4


@dataclass(frozen=True)
class MappedClips:
    """n clips as tensors, f h w c uint8, each read from where it lies at the moment that it is asked for."""

    rows: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        # A copy of what may be a file: torch knows no tensor that must not be written to.
        return torch.from_numpy(self.rows[index].copy())


@dataclass(frozen=True)
class TrainingClips:
    """All that batches are drawn from.

    frames: n clips f h w c, uint8
    captions: for each clip the rows of `pooled` that describe it; empty where it has no caption
    keeps_side: for each row of `pooled`, whether the caption says left or right
    pooled: m d, one row a caption; None for an unconditional model
    """

    frames: Tensor | MappedClips
    captions: Sequence[Sequence[int]]
    keeps_side: Sequence[bool]
    pooled: Tensor | None

    @property
    def stream(self) -> StreamedClips | None:
        """Where the clips come from if they are decoded as they are drawn."""
        rows = self.frames.rows if isinstance(self.frames, MappedClips) else None
        return rows if isinstance(rows, StreamedClips) else None

    def index(self, *, seed: int, drawn_before: int) -> int:
        """Which clip comes after `drawn_before` others."""
        if self.stream is not None:
            return streamed_index(self.stream.sizes, seed=seed, drawn_before=drawn_before)
        return clip_index(len(self.frames), seed=seed, drawn_before=drawn_before)

    def whole(self, index: int) -> int:
        """The clip itself, or the one that takes its place because it cannot be decoded."""
        return index if self.stream is None else self.stream.resolve(index)


@dataclass(frozen=True)
class Batch:
    """b clips with their noise levels. x0, noise: b c f h w, x0 in [-1, 1]; t: b; text as the network takes it."""

    x0: Tensor
    noise: Tensor
    t: Tensor
    text: dict[str, Tensor] | None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device, save t: the schedule's tables lie on the CPU."""
        text = None if self.text is None else {key: value.to(device) for key, value in self.text.items()}
        return Batch(self.x0.to(device), self.noise.to(device), self.t, text)


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
) -> Batch:
    """The clips at `places` of the global batch of `step`.

    probabilities: of each timestep to be drawn, num_timesteps of sum 1; None draws all alike
    The global batch spans all processes and passes of one optimizer step, so that how it is split over them changes
    nothing about what is learned from.
    """
    drawn = [
        _draw_clip(
            clips,
            draw=generator("clip", seed, step, place),
            index=clips.whole(clips.index(seed=seed, drawn_before=step * global_batch + place)),
            flip_prob=flip_prob,
            drop_prob=drop_prob,
        )
        for place in places
    ]
    x0 = to_float(torch.stack([clip.frames for clip in drawn]))
    noise = torch.empty_like(x0)
    for clip, into in zip(drawn, noise, strict=True):
        torch.randn(into.shape, generator=clip.draw, out=into)
    text = None
    if clips.pooled is not None:
        text = {
            "pooled": torch.stack([clips.pooled[max(clip.caption, 0)] for clip in drawn]),
            "is_null": torch.tensor([clip.caption < 0 for clip in drawn]),
        }
    spots = _spots(seed, step, places, global_batch)
    t = torch.tensor([timestep_at(spot, probabilities, num_timesteps) for spot in spots])
    return Batch(x0=x0, noise=noise, t=t, text=text)


@dataclass(frozen=True)
class _Drawn:
    frames: Tensor  # f h w c, uint8
    caption: int  # row of the captions' features; -1 where the text is hidden or missing
    draw: torch.Generator  # where the clip's noise comes from next


def _draw_clip(
    clips: TrainingClips, *, draw: torch.Generator, index: int, flip_prob: float, drop_prob: float
) -> _Drawn:
    coin, caption_coin, drop_coin = torch.rand(3, generator=draw).tolist()
    rows = clips.captions[index]
    caption = rows[int(caption_coin * len(rows))] if rows else -1
    frames = clips.frames[index]
    # One coin per clip: flipping frames separately would break the motion.
    if coin < flip_prob and not (caption >= 0 and clips.keeps_side[caption]):
        frames = frames.flip(-2)
    return _Drawn(frames, -1 if drop_coin < drop_prob else caption, draw)


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


def clip_index(num_clips: int, *, seed: int, drawn_before: int) -> int:
    """Which clip comes after `drawn_before` others: every clip once an epoch, each epoch in an order of its own."""
    epoch, place = divmod(drawn_before, num_clips)
    return int(_epoch_order(num_clips, seed, epoch)[place])


@lru_cache(maxsize=4)
def _epoch_order(num_clips: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(num_clips, generator=generator("epoch", seed, epoch))


def streamed_index(sizes: tuple[int, ...], *, seed: int, drawn_before: int) -> int:
    """`clip_index` for clips in shards, which are come to in another order in each epoch, a few shards at once.

    sizes: clips of each shard; the clips are numbered through, shard after shard
    Of the few, each clip may come before each other: neighbours in a shard are seldom neighbours in a batch, and what
    is read at a time lies close together.
    """
    epoch, place = divmod(drawn_before, sum(sizes))
    shards, ends = _shard_order(sizes, seed, epoch)
    group = bisect_right(ends, place)
    first = group * SHARDS_AT_ONCE
    start = ends[group - 1] if group else 0
    at = int(_group_order(ends[group] - start, seed, epoch, group)[place - start])
    for shard in shards[first : first + SHARDS_AT_ONCE]:
        if at < sizes[shard]:
            return sum(sizes[:shard]) + at
        at -= sizes[shard]
    raise AssertionError("a place lies in its group")


@lru_cache(maxsize=4)
def _shard_order(sizes: tuple[int, ...], seed: int, epoch: int) -> tuple[list[int], list[int]]:
    """The shards in the order of an epoch, and how many clips come up to the end of each group of them."""
    order = torch.randperm(len(sizes), generator=generator("shards", seed, epoch)).tolist()
    groups = (order[first : first + SHARDS_AT_ONCE] for first in range(0, len(order), SHARDS_AT_ONCE))
    return order, list(accumulate(sum(sizes[shard] for shard in group) for group in groups))


@lru_cache(maxsize=4)
def _group_order(num_clips: int, seed: int, epoch: int, group: int) -> Tensor:
    return torch.randperm(num_clips, generator=generator("group", seed, epoch, group))


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames ... f h w c as ... c f h w in [-1, 1]."""
    # Bytes are put in order first: as float32 there are four times as many to move.
    ordered = frames.movedim(-1, -4).clone(memory_format=torch.contiguous_format)
    return ordered.float().div_(127.5).sub_(1.0)
