"""Clips of one shape, as quality.py trains on and from_level.py begins with."""

from collections.abc import Iterator
from itertools import count

from t2v.data.worlds import WorldClip, draw_world


def one_subject(seed: int, *, size: int, num_frames: int) -> Iterator[WorldClip]:
    """Shapes of the worlds, without those clips that show two; endless. size: pixels a side"""
    clips = (
        draw_world(seed, index, size=size, num_frames=num_frames, families=["shapes"], split="seen")
        for index in count()
    )
    return (clip for clip in clips if clip.facts["number"] == 1)
