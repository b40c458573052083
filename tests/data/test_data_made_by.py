"""What a file says of itself: read back whole, and refused where t2v did not write it."""

import json

import numpy as np
import pytest

from t2v.config import GenerationSettings
from t2v.data.made_by import read_made_by, settings_in
from t2v.data.video_files import DECODERS, write_clip
from t2v.errors import ClipError, SettingsError

FRAMES = np.zeros((2, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("ending", DECODERS)
def test_settings_come_back_from_every_format(tmp_path, ending):
    settings = GenerationSettings(prompt="käse & <b>", seed=3, num_steps=7)
    told = {"made_by": "t2v 1", **settings.model_dump(mode="json"), "clip": 0}
    write_clip(tmp_path / f"a{ending}", FRAMES, frame_ms=100, metadata=json.dumps(told))
    content = read_made_by(tmp_path / f"a{ending}")
    assert content == told and settings_in(content, source="a") == settings


@pytest.mark.parametrize("text", [None, "hello", "[1]", '{"made_by": "another"}', '{"made_by": 3}', "[" * 100_000])
def test_other_files_are_refused(tmp_path, text):
    write_clip(tmp_path / "a.gif", FRAMES, frame_ms=100, metadata=text)
    with pytest.raises(ClipError, match=r"a\.gif does not say how it was made"):
        read_made_by(tmp_path / "a.gif")


def test_settings_that_are_none_are_named():
    with pytest.raises(SettingsError, match=r"a\.gif: num_steps: "):
        settings_in({"prompt": "a", "num_steps": "many"}, source="a.gif")
