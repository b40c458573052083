"""Clips on the shelf: found by name only, in three formats, and gone when their time is over."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image, ImageSequence
from starlette.applications import Starlette
from starlette.testclient import TestClient

from t2v.config import GenerationSettings
from t2v.data.made_by import read_made_by, settings_in
from t2v.data.reading import read_clip
from t2v.page.shelf import LINGER_S, MEDIA_TYPES, Shelf
from t2v.service import GeneratedClip

DECODE = {
    "gif": lambda file: read_clip(file).frames,
    "mp4": lambda file: iio.imread(file, plugin="pyav"),
    "webp": lambda file: np.stack(
        [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(file))]
    ),
}


def clip(seed: int = 1, *, size: int = 8, num_frames: int = 3) -> GeneratedClip:
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, size, size, 3), dtype=np.uint8)
    settings = GenerationSettings(prompt="red & <b>", seed=seed, num_frames=num_frames, size=size, fps=8)
    return GeneratedClip(frames, 125.0, settings, 0, 0.5, "a.safetensors", "0" * 64, "cpu", "fp32")


@pytest.fixture
def clock():
    return {"now": 0.0}


@pytest.fixture
def shelf(tmp_path, clock):
    return Shelf(tmp_path / "clips", keep_s=100, max_clips=3, clock=lambda: clock["now"])


@pytest.fixture
def browser(shelf):
    with TestClient(Starlette(routes=[shelf.route()])) as client:
        yield client


def test_the_frames_are_kept_exactly(shelf):
    made = clip()
    kept = shelf.add(made)
    assert np.array_equal(shelf.get(kept.id).frames(), made.frames)
    assert kept.clip.settings == made.settings


@pytest.mark.parametrize("ending", MEDIA_TYPES)
def test_every_format_is_served_with_its_settings_and_decodes_to_the_frames(shelf, browser, tmp_path, ending):
    made = clip()
    kept = shelf.add(made)
    answer = browser.get("/" + kept.address(ending))
    assert answer.status_code == 200 and answer.headers["content-type"] == MEDIA_TYPES[ending]
    assert kept.download_name(ending) == f"red-b-1.{ending}"
    file = tmp_path / f"got.{ending}"
    file.write_bytes(answer.content)
    assert settings_in(read_made_by(file), source="file") == made.settings
    shown = DECODE[ending](file)[..., :3]
    assert shown.shape == (3, 256, 256, 3)
    # Enlarged by whole pixels, so that the middle of every square is the pixel; video keeps colours only roughly.
    error = np.abs(shown[:, 16::32, 16::32].astype(int) - made.frames).mean()
    assert error == 0 if ending == "webp" else error < 40


@pytest.mark.parametrize(
    "name",
    [
        "nothing.gif",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/frames.npy",
        "{id}/frames.npy",
        "{id}.npy",
        "{id}",
        "{id}.gif/..",
        "{id}.GIF%00",
    ],
)
def test_nothing_else_is_served(shelf, browser, name):
    kept = shelf.add(clip())
    assert browser.get("/clips/" + name.format(id=kept.id)).status_code == 404


def test_names_cannot_be_guessed(shelf):
    names = {shelf.add(clip()).id for _ in range(3)}
    assert len(names) == 3 and all(len(name) >= 22 for name in names)


def test_a_clip_is_gone_when_its_time_is_over(shelf, browser, clock):
    old = shelf.add(clip(1))
    clock["now"] = 60
    young = shelf.add(clip(2))
    clock["now"] = 100
    shelf.sweep()
    assert shelf.get(old.id) is None and shelf.get(young.id) is not None
    answer = browser.get("/" + old.address("gif"))
    assert answer.status_code == 404 and "no such clip here any more" in answer.text
    clock["now"] = 100 + LINGER_S
    shelf.sweep()
    assert not old.folder.exists() and young.folder.exists()


def test_a_clip_that_leaves_while_it_is_being_sent_arrives_whole(shelf, browser, clock, monkeypatch):
    kept = shelf.add(clip())
    whole = browser.get("/" + kept.address("gif")).content
    found = shelf.file

    def leaves(*wanted):
        path = found(*wanted)
        clock["now"] = 100
        shelf.sweep()
        shelf.sweep()
        return path

    monkeypatch.setattr(shelf, "file", leaves)
    assert browser.get("/" + kept.address("gif")).content == whole
    assert shelf.get(kept.id) is None


def test_the_oldest_make_room_for_new_ones(shelf, clock):
    kept = [shelf.add(clip(seed)) for seed in range(5)]
    assert [shelf.get(one.id) is not None for one in kept] == [False, False, True, True, True]
    clock["now"] = LINGER_S
    shelf.sweep()
    assert len(shelf) == len(list(Path(shelf.folder).iterdir())) == 3
