"""Clips that look alike are found among many, and clips that only lie on the same white ground are not."""

import io

import numpy as np
import pytest
from PIL import Image

from t2v.data import near
from t2v.data.near import NEAR, near_groups, signature

TILES = [[[0, 1], [1, 0]], [[1, 0], [0, 1]], [[0, 0], [1, 1]], [[1, 1], [0, 0]], [[0, 1], [0, 1]], [[1, 0], [1, 0]]]


def scene(seed: int, *, size: int = 48, num_frames: int = 6) -> np.ndarray:
    """A square that moves over soft stains, uint8 f h w 3: another one for each seed."""
    rng = np.random.default_rng(seed)
    stains = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    frames = np.stack([np.asarray(stains)] * num_frames).copy()
    top, colour = rng.integers(size - 12), rng.integers(0, 256, 3)
    for number, frame in enumerate(frames):
        left = number * (size - 12) // max(1, num_frames - 1)
        frame[top : top + 12, left : left + 12] = colour
    return frames


def saved_again(frames: np.ndarray) -> np.ndarray:
    """As JPEG pictures of middling quality."""

    def picture(frame: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=40)
        return np.asarray(Image.open(buffer))

    return np.stack([picture(frame) for frame in frames])


def smaller(frames: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).resize((30, 30))) for frame in frames])


def in_few_colours(frames: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).quantize(64).convert("RGB")) for frame in frames])


def groups_of(*clips: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return near_groups([signature(clip) for clip in clips])


@pytest.mark.parametrize("change", [saved_again, smaller, in_few_colours])
def test_a_clip_saved_again_is_near_and_others_are_not(change):
    clips = [scene(seed) for seed in range(8)]
    assert groups_of(*clips, change(clips[3])) == ((3, 8),)


def test_other_motion_is_another_clip():
    frames = np.full((6, 32, 32, 3), 255, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:16, 4 * number : 4 * number + 8] = 0
    assert groups_of(frames, frames[::-1]) == ()


def test_small_figures_on_the_same_ground_differ_by_what_is_seen():
    clips = np.full((3, 4, 32, 32, 3), 255, np.uint8)
    for clip, (y, x) in zip(clips, [(2, 2), (14, 14), (26, 26)], strict=True):
        clip[:, y : y + 4, x : x + 4] = (200, 30, 30)
    # As bare numbers they are closer than two copies of a full picture may be.
    assert np.sqrt(np.square(np.diff(clips.astype(float), axis=0)).mean()) < NEAR * 255
    assert groups_of(*clips) == ()


def test_near_clips_form_groups_by_way_of_others():
    clips = [scene(1)]
    for _ in range(6):
        clips.append(np.clip(clips[-1].astype(int) + 6, 0, 255).astype(np.uint8))
    assert groups_of(clips[0], clips[-1]) == ()
    assert groups_of(*clips) == (tuple(range(7)),)


def test_channels_and_numbers_of_frames_do_not_matter():
    rgb = scene(0)
    alpha = np.concatenate([rgb, np.full((*rgb.shape[:-1], 1), 255, np.uint8)], axis=-1)
    assert groups_of(rgb, alpha, rgb.repeat(2, axis=0)) == ((0, 1, 2),)
    grey = rgb[..., :1]
    assert signature(grey).shape == signature(rgb).shape == (4, 16, 16, 3)
    assert signature(rgb[:1]).shape == (4, 16, 16, 3)  # a still
    nothing = alpha * np.array([1, 1, 1, 0], np.uint8)
    assert (signature(nothing) == 255).all()  # transparent is white, whatever colour lies under it


@pytest.mark.parametrize("block", [1, 7, 512])
def test_the_search_finds_what_comparing_every_pair_finds(monkeypatch, block):
    monkeypatch.setattr(near, "BLOCK", block)
    rng = np.random.default_rng(5)
    clips = [scene(seed, size=32) for seed in range(25)]
    clips += [np.clip(clips[n].astype(int) + rng.integers(-40, 40), 0, 255).astype(np.uint8) for n in range(25)]
    clips += [np.full((2, 16, 16, 3), shade, np.uint8) for shade in (0, 1, 9, 128, 255)]
    # Patterns so fine that coarser signatures of them are all alike.
    fine = [np.kron(np.ones((8, 8)), np.array(tile))[..., None].repeat(3, -1) for tile in TILES]
    clips += [np.stack([np.where(pattern, 90, 160).astype(np.uint8) + step] * 2) for step in (0, 4) for pattern in fine]
    signatures = np.stack([signature(clips[place]) for place in rng.permutation(len(clips))])
    flat = signatures.reshape(len(signatures), -1).astype(float)
    variance = flat.reshape(len(flat), -1, 3).var(axis=1).mean(axis=-1)
    groups = {place: {place} for place in range(len(flat))}
    pairs = 0
    for a in range(len(flat)):
        for b in range(a):
            contrast = max(8.0, np.sqrt((variance[a] + variance[b]) / 2))
            if np.sqrt(np.square(flat[a] - flat[b]).mean()) <= NEAR * contrast:
                pairs += 1
                both = groups[a] | groups[b]
                for place in both:
                    groups[place] = both
    assert 5 < pairs < 50
    expected = {tuple(sorted(group)) for group in groups.values() if len(group) > 1}
    assert near_groups(signatures) == tuple(sorted(expected))


def test_none_and_one_are_no_groups():
    assert near_groups([]) == near_groups([signature(scene(0))]) == ()
