"""Presets: sampling settings with a name."""

import pytest

from t2v.config import GenerationSettings
from t2v.presets import PRESET_NAMES, PRESET_SETTINGS, PRESETS, preset_of


def test_normal_is_what_is_drawn_where_nothing_is_asked_for():
    assert preset_of(GenerationSettings().model_dump()) == "normal"


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_every_preset_is_valid_and_found_again(name):
    settings = GenerationSettings(prompt="red", **PRESETS[name])
    assert preset_of(settings.model_dump()) == name
    assert tuple(PRESETS[name]) == PRESET_SETTINGS


def test_other_settings_have_no_name():
    assert preset_of(GenerationSettings(num_steps=3).model_dump()) is None


def test_better_presets_take_more_steps():
    steps = [PRESETS[name]["num_steps"] for name in PRESET_NAMES]
    assert steps == sorted(set(steps))
