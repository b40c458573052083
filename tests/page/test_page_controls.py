"""Every setting has its control, made from the one description, and what the controls say is what is drawn."""

from typing import get_args

import gradio as gr
import pytest

from t2v.checkpoint import load_checkpoint
from t2v.config import MAX_SEED, GenerationSettings, SamplerName
from t2v.errors import SettingsError
from t2v.page.controls import NAMES, control, fitted, settings_of, shown

FIELDS = GenerationSettings.model_fields


def values():
    """What fresh controls say, as the browser sends it."""
    return {name: control(name).value for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_control_explains_itself_in_the_words_of_the_setting(name):
    made = control(name)
    assert made.info.lower() == FIELDS[name].description.lower()
    assert made.label and made.elem_id == f"setting-{name}"


@pytest.mark.parametrize("name", NAMES)
def test_the_default_of_a_control_is_that_of_the_setting(name):
    default = FIELDS[name].default
    if default is not None:
        assert control(name).value == default


def test_fresh_controls_say_the_default_settings():
    said = settings_of(values() | {"prompt": "red", "num_frames": None, "size": None})
    assert said == GenerationSettings(prompt="red")


def test_names_to_choose_from_are_a_list():
    made = control("sampler")
    assert isinstance(made, gr.Dropdown) and [value for _, value in made.choices] == list(get_args(SamplerName))


def test_sliders_end_where_values_are_usual_but_show_others_too():
    made = control("num_steps")
    assert isinstance(made, gr.Slider) and (made.minimum, made.maximum, made.step) == (1, 100, 1)
    update = shown(GenerationSettings(num_steps=400))["num_steps"]
    assert update["value"] == update["maximum"] == 400
    assert shown(GenerationSettings(num_steps=4))["num_steps"]["maximum"] == 100


@pytest.mark.parametrize("name", NAMES)
def test_every_control_allows_its_own_default(name):
    made = control(name)
    if isinstance(made, gr.Slider):
        assert made.minimum <= made.value <= made.maximum
        assert made.preprocess(made.minimum) == made.minimum


def test_settings_shown_are_settings_said():
    settings = GenerationSettings(
        prompt="a", negative="b", num_frames=12, size=64, num_steps=7, sampler="ddpm", eta=0.5, guidance_scale=3.3,
        threshold="dynamic", percentile=0.95, seed=MAX_SEED, num_clips=2, fps=12.5,
    )  # fmt: skip
    said = {name: update["value"] for name, update in shown(settings).items()}
    assert settings_of(said) == settings


def test_whole_numbers_may_come_as_a_browser_writes_them():
    assert settings_of(values() | {"num_steps": 20.0, "seed": 5.0, "fps": 8}).seed == 5


def test_a_value_out_of_range_is_named():
    with pytest.raises(SettingsError, match=r"num_clips: .* less than or equal to 64, not 65"):
        settings_of(values() | {"num_clips": 65})
    with pytest.raises(SettingsError, match="num_steps"):
        settings_of(values() | {"num_steps": 2.5})


def test_frames_and_size_start_as_the_model_was_trained(make_checkpoint):
    header = load_checkpoint(make_checkpoint(recipe={"data": {"size": 200, "num_frames": 40}})).header
    updates = fitted(header)
    assert (updates["num_frames"]["value"], updates["num_frames"]["maximum"]) == (40, 40)
    assert (updates["size"]["value"], updates["size"]["maximum"]) == (200, 200)
    assert updates["size"]["minimum"] % updates["size"]["step"] == 0 and updates["size"]["step"] == 2
