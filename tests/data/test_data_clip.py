"""Frames are chosen by time; pictures are made square, laid on a colour and resized without stains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v.config import FitName
from t2v.data.clip import Clip, composite, frame_times, grid_times, lengthened, parse_colour, resize, to_square
from t2v.errors import SettingsError

DEFAULTS = {"num_frames": 4, "size": 8, "channels": 3, "background": "white", "fit": "crop"}


def clip_of(*colours: tuple[int, int, int, int], height: int = 8, width: int = 8, ms: float = 100) -> Clip:
    frames = np.stack([np.full((height, width, 4), colour, dtype=np.uint8) for colour in colours])
    return Clip(frames, np.full(len(colours), float(ms)))


def to_training(clip: Clip, *, num_frames: int, size: int, channels: int, background: str, fit: FitName) -> np.ndarray:
    """The frames that training sees where they are spread over the clip."""
    colour = parse_colour(background)
    chosen = clip.frames[frame_times(clip.frame_ms, num_frames)]
    return np.stack([to_square(frame, size=size, channels=channels, colour=colour, fit=fit) for frame in chosen])


def test_equal_frames_are_each_taken_once():
    assert frame_times([40, 40, 40], 3).tolist() == [0, 1, 2]


def test_a_long_frame_is_taken_as_often_as_it_is_seen():
    assert frame_times([700, 100, 100, 100], 10).tolist() == [0] * 7 + [1, 2, 3]


def test_a_short_clip_repeats_what_is_showing():
    assert frame_times([100, 100], 6).tolist() == [0, 0, 0, 1, 1, 1]
    assert frame_times([100], 3).tolist() == [0, 0, 0]


def test_many_frames_are_taken_from_the_whole_clip():
    taken = frame_times([30] * 100, 10)
    assert taken.tolist() == list(range(5, 100, 10))


@given(st.lists(st.integers(20, 5000), min_size=1, max_size=50), st.integers(1, 64))
def test_the_frame_taken_is_the_one_on_the_screen_at_that_moment(frame_ms, num_frames):
    for part, index in enumerate(frame_times(frame_ms, num_frames)):
        twice_moment = (2 * part + 1) * sum(frame_ms)  # in units of 1 / (2 num_frames) ms, to stay whole
        assert sum(frame_ms[:index]) * 2 * num_frames <= twice_moment < sum(frame_ms[: index + 1]) * 2 * num_frames


@given(st.lists(st.integers(20, 5000), min_size=1, max_size=50), st.sampled_from([1, 4, 12.5, 30]))
def test_on_a_grid_every_moment_in_the_clip_has_the_frame_on_the_screen(frame_ms, fps):
    chosen = grid_times(frame_ms, fps)
    ends = np.cumsum(frame_ms)
    moments = [(part + 0.5) * 1000 / fps for part in range(len(chosen) + 1)]
    for moment, index in zip(moments, chosen, strict=False):
        assert (index == 0 or ends[index - 1] <= moment) and (moment < ends[index] or index == len(frame_ms) - 1)
    assert moments[-1] >= ends[-1] > (moments[-2] if len(chosen) > 1 else 0)


def test_a_clip_at_the_rate_of_the_grid_is_taken_frame_by_frame():
    assert grid_times([70] * 30, 1000 / 70).tolist() == list(range(30))
    assert grid_times([100] * 10, 5).tolist() == [1, 3, 5, 7, 9]
    assert grid_times([100, 300], 10).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("short", "expected"),
    [("loop", "0120120"), ("hold", "0122222"), ("mirror", "0121012")],
)
def test_a_short_clip_goes_on_as_asked(short, expected):
    assert "".join(map(str, lengthened(np.arange(3), 7, short))) == expected
    assert lengthened(np.arange(9), 7, short).tolist() == list(range(9))
    assert lengthened(np.zeros(1, dtype=np.int64), 4, short).tolist() == [0] * 4


def test_transparency_is_laid_on_the_background():
    clip = clip_of((255, 0, 0, 0))
    assert (to_training(clip, **{**DEFAULTS, "background": "#204060"}) == [0x20, 0x40, 0x60]).all()


def test_half_transparent_is_half_of_each():
    assert composite(np.array([[200, 0, 100, 128]], dtype=np.uint8), (0, 200, 100)).tolist() == [[100, 100, 100]]


def test_colour_under_transparent_pixels_never_shows_at_an_edge():
    frame = np.zeros((64, 64, 4), dtype=np.uint8)
    frame[..., 1] = 255  # green, hidden
    frame[:, :31] = (255, 0, 0, 255)
    small = composite(resize(frame, height=10, width=10)[None], (255, 255, 255))[0]
    assert (small[..., 0] == 255).all() and (small[..., 1] == small[..., 2]).all()


def test_whole_enlargement_repeats_pixels():
    frame = np.random.default_rng(0).integers(256, size=(4, 4, 4)).astype(np.uint8)
    frame[..., 3] = 255
    np.testing.assert_array_equal(resize(frame, height=12, width=12), frame.repeat(3, axis=0).repeat(3, axis=1))


def test_broken_enlargement_brings_no_colour_outside_the_two_neighbours():
    frame = np.zeros((6, 6, 4), dtype=np.uint8)
    frame[..., 3] = 255
    frame[:, 3:, :3] = 200
    larger = resize(frame, height=8, width=8)
    assert set(np.unique(larger[..., 0])) <= {0, 200}  # the edge falls between two pixels: 3 of 6 is 4 of 8


def test_shrinking_averages_without_halos():
    frame = np.zeros((64, 64, 4), dtype=np.uint8)
    frame[...] = (100, 100, 100, 255)
    frame[:, 32:, :3] = 150
    small = resize(frame, height=9, width=9)
    assert small[..., 0].min() >= 99 and small[..., 0].max() <= 151


def test_crop_keeps_the_middle_and_pad_keeps_the_whole():
    frames = np.zeros((1, 8, 24, 4), dtype=np.uint8)
    frames[..., 3] = 255
    frames[:, :, 8:16, 0] = 255
    clip = Clip(frames, np.array([100.0]))
    cropped = to_training(clip, **DEFAULTS)
    assert (cropped == [255, 0, 0]).all()
    padded = to_training(clip, **{**DEFAULTS, "size": 24, "fit": "pad", "background": "blue"})
    assert (padded[:, 8:16] == frames[..., :3]).all()
    assert (padded[:, :8] == [0, 0, 255]).all() and (padded[:, 16:] == [0, 0, 255]).all()


def test_stretch_fills_the_square_with_the_whole_picture():
    frames = np.zeros((1, 8, 16, 4), dtype=np.uint8)
    frames[..., 3] = 255
    frames[:, :, 8:] = (200, 0, 0, 255)
    stretched = to_training(Clip(frames, np.array([100.0])), **{**DEFAULTS, "fit": "stretch"})
    dark, bright = stretched[:, :, :4, 0], stretched[:, :, 4:, 0]
    assert dark.max() <= 10 and bright.min() >= 190  # smooth at the edge


def test_a_line_of_pixels_can_be_padded():
    assert to_training(clip_of((1, 2, 3, 255), height=1, width=500), **{**DEFAULTS, "fit": "pad"}).shape == (4, 8, 8, 3)


@pytest.mark.parametrize(("channels", "expected"), [(1, [76]), (3, [255, 0, 0]), (4, [255, 0, 0, 255])])
def test_channels_are_grey_colour_or_colour_with_alpha(channels, expected):
    out = to_training(clip_of((255, 0, 0, 255)), **{**DEFAULTS, "channels": channels})
    assert out.shape == (4, 8, 8, channels) and out.dtype == np.uint8
    assert (out == expected).all()


def test_alpha_is_kept_and_padded_with():
    out = to_training(clip_of((9, 9, 9, 0), (9, 9, 9, 255), width=4), **{**DEFAULTS, "channels": 4, "fit": "pad"})
    assert (out[:2, ..., 3] == 0).all() and (out[2:, :, 2:6, 3] == 255).all() and (out[2:, :, :2, 3] == 0).all()


def test_no_frame_is_made_up():
    colours = [(10 * number, 0, 0, 255) for number in range(1, 4)]
    out = to_training(clip_of(*colours), **{**DEFAULTS, "num_frames": 9})
    assert out[:, 0, 0, 0].tolist() == [10] * 3 + [20] * 3 + [30] * 3


def test_an_unknown_colour_says_what_would_work():
    with pytest.raises(
        SettingsError, match="background 'beigeish' is no colour: give a name like 'white', or '#rrggbb'"
    ):
        to_training(clip_of((0, 0, 0, 255)), **{**DEFAULTS, "background": "beigeish"})
