"""Whatever happens to a file on its way, it becomes a clip or a reason: never another error, a crash or a hang.

A person runs many more tries with T2V_DAMAGE_TRIES=50000, and others with T2V_DAMAGE_SEED.
"""

import os
import random

import numpy as np
import pytest

from t2v.data.pixels import Pixels

TRIES = int(os.environ.get("T2V_DAMAGE_TRIES", "40"))  # of each format
SEED = int(os.environ.get("T2V_DAMAGE_SEED", "0"))
LIES = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\xff\xff", b"\xff\xff\0\0", b"\1\0\0\0"]
HEAD_BYTES = 200  # where most of what a file says of itself stands
SETTINGS = Pixels(num_frames=4, size=16, channels=3, background="white", fit="crop")
NAMES = (
    *("gif", "webp", "png", "mp4", "mov", "webm", "webm vp8", "mkv", "avi", "avi mjpeg"),
    *("frames", "still png", "still webp", "still jpeg"),
)


def cut(dice: random.Random, data: bytearray) -> None:
    del data[dice.randrange(len(data)) :]


def flip(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(len(data))] = dice.randrange(256)


def flip_in_the_head(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(min(len(data), HEAD_BYTES))] = dice.randrange(256)


def lie(dice: random.Random, data: bytearray) -> None:
    place = dice.randrange(len(data))
    data[place : place + 4] = dice.choice(LIES)


def lose(dice: random.Random, data: bytearray) -> None:
    place = dice.randrange(len(data))
    del data[place : place + dice.randrange(1, 400)]


def repeat(dice: random.Random, data: bytearray) -> None:
    place, start = dice.randrange(len(data)), dice.randrange(len(data))
    data[place:place] = data[start : start + dice.randrange(1, 200)]


DAMAGES = [cut, flip, flip_in_the_head, lie, lose, repeat]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.timeout(3600 if TRIES > 100 else 60)
def test_damage_gives_a_clip_or_a_reason(name, good_files):
    reasons = set()
    for number in range(TRIES):
        dice = random.Random(f"{SEED} {name} {number}")
        contents = [bytearray(data) for data in good_files[name]]
        dice.choice(DAMAGES)(dice, dice.choice(contents))
        facts, frames = SETTINGS.decode(tuple(map(bytes, contents)))
        if frames is None:
            assert facts.keys() == {"reason"}
            reasons.add(facts["reason"])
        else:
            assert frames.dtype == np.uint8 and len(frames) in (1, 4) and frames.shape[1:] == (16, 16, 3)
            assert facts.keys() == {"num_frames", "duration_ms", "width", "height", "format"}
    assert reasons, "no damage was found: is there any?"


def test_every_format_is_damaged_here(good_files):
    assert good_files.keys() == set(NAMES)
