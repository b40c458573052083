"""Which clip comes when, as a function of the seed and of how many came before: every clip once an epoch."""

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from t2v.runtime import generator

SHARDS_AT_ONCE = 4


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
