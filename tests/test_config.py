"""Settings: what a recipe may say, and what a person is told who says it wrong."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from t2v import config
from t2v.config import FormatName, GenerationSettings, Recipe
from t2v.errors import SettingsError
from t2v.reading import load_recipe, recipe_from_mapping, recipe_keys, recipe_names, validate

SECTIONS = ("data", "text", "model", "diffusion", "train", "limits")


def said(mapping, overrides=None) -> str:
    """The one line that a wrong recipe is answered with."""
    with pytest.raises(SettingsError) as caught:
        recipe_from_mapping(mapping, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_says_what_it_is_for(name):
    assert load_recipe(name).about


def test_every_recipe_file_has_a_name():
    folder = Path(config.__file__).parent / "recipes"
    assert {file.stem for file in folder.glob("*.toml")} == set(recipe_names())


def test_the_classic_recipe_is_the_classic_run():
    seed = load_recipe("seed")
    assert (seed.data.size, seed.data.num_frames, seed.data.channels) == (64, 10, 3)
    assert (seed.model.dim, seed.model.dim_mults, seed.model.patch) == (64, (1, 2, 4, 8), 1)
    assert (seed.diffusion.num_timesteps, seed.diffusion.loss) == (1000, "l1")
    assert (seed.train.batch_size, seed.train.learning_rate, seed.train.accumulation) == (16, 1e-4, 2)
    assert seed.train.ema_decay == 0.995


def test_a_file_of_ones_own_is_a_recipe(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('about = "mine"\n[train]\nbatch_size = 3\n')
    recipe = load_recipe(str(file), {"train.seed": "7"})
    assert (recipe.about, recipe.train.batch_size, recipe.train.seed) == ("mine", 3, 7)


@pytest.mark.parametrize("content", ["train = ", "[train]\nseed = 1\nseed = 2\n"])
def test_a_file_that_is_not_toml_is_named(tmp_path, content):
    file = tmp_path / "broken.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"broken\.toml is not readable TOML"):
        load_recipe(str(file))


def test_losses_are_not_weighed_by_two_histories():
    both = {"diffusion": {"weighting": "balanced", "timesteps": "loss_second_moment"}}
    assert "weighting balanced needs timesteps even: loss_second_moment weighs losses by itself" in said(both)


def test_what_moves_is_weighed_in_squares_only():
    for loss in ("kl", "rescaled_kl"):
        reason = f"loss {loss} weighs the noise levels by itself: it needs weighting none, not min_snr"
        assert reason in said({"diffusion": {"loss": loss, "weighting": "min_snr"}})
    assert "motion_weight 8 needs loss l2, not l1" in said({"diffusion": {"motion_weight": 8}})


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    with pytest.raises(
        SettingsError, match=r"no recipe 'tinny': name one of tiny, small, base, seed, or a \.toml file"
    ):
        load_recipe("tinny")


@given(st.data())
def test_a_key_with_one_letter_missing_is_understood(data):
    dotted = data.draw(st.sampled_from(recipe_keys()))
    section, _, key = dotted.rpartition(".")
    cut = data.draw(st.integers(0, len(key) - 1))
    misspelled = key[:cut] + key[cut + 1 :]
    meant = f"did you mean {dotted!r}?"
    # A short name with a letter less is near to many.
    assume(section and len(key) > 4)
    assert meant in said({}, {f"{section}.{misspelled}": "1"})
    assert meant in said({section: {misspelled: 1}})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("batch_size", "train.batch_size"),
        ("train.steps", "train.num_steps"),
        ("train.batch-size", "train.batch_size"),
        ("data.frames", "data.num_frames"),
        ("drop_prob", "text.drop_prob"),
    ],
)
def test_a_key_that_people_would_type_is_understood(typed, meant):
    assert said({}, {typed: "1"}) == f"unknown setting {typed!r}; did you mean {meant!r}?"


def test_a_key_like_no_other_is_answered_with_all():
    message = said({}, {"zzz": "1"})
    assert all(key in message for key in recipe_keys())


@pytest.mark.parametrize("section", SECTIONS)
def test_a_misspelled_section_is_an_error(section):
    assert f"unknown setting '{section}s'" in said({f"{section}s": {}})


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.batch_size=4", 4),
        ("train.num_steps=1_000", 1000),
        ("train.learning_rate=3e-4", 3e-4),
        ("train.optimizer=adamw8bit", "adamw8bit"),
        ("train.optimizer='adamw8bit'", "adamw8bit"),
        ("text.encoder=./my encoder", "./my encoder"),
        ("data.background=#ff0000", "#ff0000"),
        ("model.dim_mults=[1, 2]", (1, 2)),
        ("model.zero_init=true", True),
        ("model.blocks=3", (3,)),
        ("model.spatial_attn=none", ("none",)),
        ('model.spatial_attn=["none", "none", "linear", "full"]', ("none", "none", "linear", "full")),
        ("model.temporal_attn=[false, false, true, true]", (False, False, True, True)),
        ("model.attn_heads=[8, 8, 8, 8]", (8,)),
        ('prompts=["a cat", "a dog"]', ("a cat", "a dog")),
        ("about=a try", "a try"),
    ],
)
def test_an_override_is_toml_or_a_bare_word(override, value):
    dotted, _, text = override.partition("=")
    section, _, key = dotted.rpartition(".")
    recipe = recipe_from_mapping({}, {dotted: text})
    assert getattr(getattr(recipe, section) if section else recipe, key) == value


def test_an_override_leaves_its_neighbours_and_its_source_alone():
    mapping = {"train": {"batch_size": 4, "seed": 1}}
    recipe = recipe_from_mapping(mapping, {"train.seed": "2"})
    assert (recipe.train.batch_size, recipe.train.seed) == (4, 2)
    assert mapping == {"train": {"batch_size": 4, "seed": 1}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.size=9999", ["data.size", "less than or equal to 512", "9999"]),
        ("data.size=63", ["data.size", "multiple of 8", "63"]),
        ("data.channels=2", ["data.channels", "1, 3 or 4", "2"]),
        ("train.batch_size=many", ["train.batch_size", "integer", "'many'"]),
        ("train.weight_decay=-1", ["train.weight_decay", "greater than or equal to 0", "-1"]),
        ("train.learning_rate=nan", ["train.learning_rate", "nan"]),
        ("limits.max_duration_s=inf", ["limits.max_duration_s", "finite"]),
        ("train.weight_decay=inf", ["train.weight_decay", "finite"]),
        ("model.init_dim=2147483648", ["model.init_dim", "1024"]),
        ("train.optimizer=sgd", ["train.optimizer", "'adamw', 'muon' or 'adamw8bit'", "'sgd'"]),
        ("model.init_kernel_size=4", ["init_kernel_size", "odd", "4"]),
        ("model.dim_mults=[]", ["model.dim_mults", "at least 1"]),
        ("model.blocks=0", ["model.blocks", "greater than or equal to 1", "not 0"]),
        ("model.blocks=[1, 2]", ["model.blocks", "one value, or 4 for the levels of dim_mults, not 2"]),
        ("model.attn_heads=many", ["model.attn_heads", "integer", "'many'"]),
        ("model.spatial_attn=sparse", ["model.spatial_attn", "'linear', 'full' or 'none'", "'sparse'"]),
        ("model.temporal_attn=[]", ["model.temporal_attn", "at least 1"]),
    ],
)
def test_a_wrong_value_is_named_with_what_would_work(override, words):
    dotted, _, text = override.partition("=")
    message = said({}, {dotted: text})
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("old", "now"), [(True, "linear"), (False, "none")])
def test_recipes_from_before_spatial_attn_are_read(old, now):
    assert recipe_from_mapping({"model": {"use_sparse_linear_attn": old}}).model.spatial_attn == (now,)


def test_two_words_for_one_setting_are_refused():
    message = said({"model": {"use_sparse_linear_attn": True, "spatial_attn": "none"}})
    assert message == (
        "recipe: model: use_sparse_linear_attn = True is not read here; spatial_attn says how pixels attend"
    )
    assert "did you mean 'model.spatial_attn'?" in said({}, {"model.use_sparse_linear_attn": "false"})


def test_the_source_of_a_wrong_value_is_named():
    with pytest.raises(SettingsError, match=r"^mine\.toml: train\.seed: "):
        recipe_from_mapping({"train": {"seed": -1}}, source="mine.toml")


def test_generation_settings_know_their_own_keys():
    with pytest.raises(SettingsError, match="unknown setting 'guidance_scal'; did you mean 'guidance_scale'"):
        validate(GenerationSettings, {"guidance_scal": 3}, source="options")


def test_a_recipe_survives_the_way_through_json():
    recipe = load_recipe("tiny", {"prompts": '["a cat"]', "model.dim_mults": "[1, 2, 2]"})
    assert validate(Recipe, Recipe.model_validate_json(recipe.model_dump_json()).model_dump(), source="") == recipe


@pytest.mark.parametrize(
    "kind", [getattr(config, f"{name.capitalize()}Settings") for name in (*SECTIONS, "generation")]
)
def test_every_field_has_a_description(kind):
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().train.seed = 1


def test_settings_load_without_torch():
    program = "import sys, t2v, t2v.reading; t2v.reading.load_recipe('tiny'); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["window", "short"])
def test_a_setting_of_windows_without_a_rate_is_an_error_as_nothing_would_hear_it(name):
    value = {"window": "head", "short": "loop"}[name]
    with pytest.raises(SettingsError, match=f"{name} needs fps: without it num_frames are spread"):
        load_recipe("tiny", {f"data.{name}": value})
    assert getattr(load_recipe("tiny", {f"data.{name}": value, "data.fps": "8"}).data, name) == value


def test_formats_are_a_set_said_in_one_way():
    assert load_recipe("tiny", {"data.formats": "gif"}).data.formats == ("gif",)
    assert load_recipe("tiny", {"data.formats": '["mp4", "gif", "mp4"]'}).data.formats == ("gif", "mp4")
    assert load_recipe("tiny").data.formats == get_args(FormatName)
    with pytest.raises(SettingsError, match="formats"):
        load_recipe("tiny", {"data.formats": "[]"})
    with pytest.raises(SettingsError, match="Input should be 'gif', 'webp'"):
        load_recipe("tiny", {"data.formats": "tiff"})


@pytest.mark.parametrize("lengths", [[8, 9], [11, 20], [1, 10], [12, 8], [8, 129]])
def test_lengths_hold_the_usual_number_of_frames(lengths):
    assert "num_frames, 10, between them" in said({"data": {"lengths": lengths}})


def test_clips_of_every_length_are_not_compiled():
    assert "clips of one length" in said({"data": {"lengths": [8, 24]}, "train": {"compile": "always"}})
    assert recipe_from_mapping({"data": {"lengths": [8, 24]}}).data.most_frames == 24
    assert recipe_from_mapping({}, {"data.lengths": "[8,24]"}).data.lengths == (8, 24)


def test_clips_can_be_halved_where_the_network_can_read_them():
    model = {"patch": 4, "dim_mults": [1, 2]}
    for size in (24, 8):
        assert f"at least 16 and a multiple of 16 with this model, not {size}" in said(
            {"model": model, "data": {"size": size}, "train": {"half_size_share": 0.5}}
        )
    assert "clips of one size" in said({"train": {"half_size_share": 0.5, "compile": "always"}})
    recipe = recipe_from_mapping({"model": model, "data": {"size": 32}, "train": {"half_size_share": 0.5}})
    assert recipe.train.half_size_share == 0.5
