"""What the page answers: the right parts change, every mistake is a sentence, and nothing from outside is markup."""

import gradio as gr
import pytest

from t2v.config import GenerationSettings
from t2v.page.controls import NAMES
from t2v.page.models import Models
from t2v.page.shelf import Shelf
from t2v.page.studio import Studio
from t2v.presets import PRESETS
from t2v.service import GenerationService, save_clip

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def studio(make_checkpoint, fake_encoder, tmp_path):
    chosen = make_checkpoint(
        cond_dim=fake_encoder.dim, words=("red", "night"), example_prompts=("red night", HOSTILE), num_clips=1234
    )
    models = Models(runs=tmp_path / "runs", checkpoints=tmp_path / "checkpoints", chosen=chosen)
    return Studio(models, Shelf(tmp_path / "clips", keep_s=100))


@pytest.fixture
def name(studio):
    return studio.models.names()[0]


def asked(**choices):
    settings = GenerationSettings(**({"prompt": "red", "num_steps": 3, "seed": 5} | choices))
    return settings.model_dump()


def generate(studio, name, *, random_seed=False, made=(), visitor="me", **choices):
    return list(studio.generate(visitor, name, asked(**choices), random_seed=random_seed, made=made))


def merged(views):
    return {key: value for view in views for key, value in view.items()}


def test_a_new_visitor_finds_the_first_model_and_what_it_can_do(studio, name):
    view = studio.arrive()
    assert view["model"]["value"] == name
    assert view["num_frames"]["value"] == 3 and view["size"]["value"] == 8
    assert "1,234 clips" in view["about"] and view["examples"]["samples"][0] == ["red night"]


def test_without_any_model_the_page_says_what_to_do(tmp_path, monkeypatch):
    studio = Studio(Models(runs=tmp_path, checkpoints=tmp_path), Shelf(tmp_path, keep_s=1))
    monkeypatch.setattr(studio.models, "names", list)
    assert "t2v train" in studio.arrive()["status"]


def test_a_clip_stands_on_the_stage_and_in_the_gallery_with_its_seed(studio, name):
    view = merged(generate(studio, name))
    [clip_id] = view["visit"]
    assert (
        f"clips/{clip_id}.gif" in view["stage"]
        and "seed 5" in view["stage"]
        and f'data-clip="{clip_id}"' in view["gallery"]
    )
    assert all(f"clips/{clip_id}.{ending}" in view["stage"] for ending in ("gif", "mp4", "webp"))


def test_a_seed_is_drawn_only_where_that_is_asked(studio, name):
    assert merged(generate(studio, name, seed=5))["seed"] == 5
    drawn = {merged(generate(studio, name, seed=5, random_seed=True))["seed"] for _ in range(3)}
    assert len(drawn) == 3 and 5 not in drawn


def test_a_visit_gathers_its_clips_newest_first(studio, name):
    first = merged(generate(studio, name, seed=1))["visit"]
    view = merged(generate(studio, name, seed=2, num_clips=2, made=first))
    assert len(view["visit"]) == 3 and view["visit"][0] == first[0]
    assert view["gallery"].index("seed 2") < view["gallery"].index("seed 1")


def test_a_click_in_the_gallery_brings_every_setting_back(studio, name):
    choices = {"num_steps": 4, "guidance_scale": 3.5, "seed": 9, "sampler": "ddpm", "negative": "night", "size": 16}
    made = merged(generate(studio, name, **choices))["visit"]
    view = studio.bring_back(made[0], made=made)
    assert {key: view[key]["value"] for key in choices} == choices
    assert view["prompt"]["value"] == "red" and view["random_seed"] is False and view["model"] == name
    again = {key: view[key]["value"] for key in NAMES}
    clips = [studio.shelf.get(made[0]).frames()]
    [other] = merged(studio.generate("me", name, again, random_seed=False, made=()))["visit"]
    assert (studio.shelf.get(other).frames() == clips[0]).all()


def test_another_visits_clip_is_not_brought_back(studio, name):
    made = merged(generate(studio, name))["visit"]
    assert "no longer here" in studio.bring_back(made[0], made=[])["status"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_its_controls_and_comes_back_with_a_clip(studio, name, preset):
    view = studio.choose_preset(preset)
    assert {setting: update["value"] for setting, update in view.items()} == PRESETS[preset]
    made = merged(generate(studio, name, **PRESETS[preset] | {"num_steps": 1}))["visit"]
    assert studio.bring_back(made[0], made=made)["preset"]["value"] is None
    made = merged(generate(studio, name, **PRESETS[preset]))["visit"]
    assert studio.bring_back(made[0], made=made)["preset"]["value"] == preset


def test_a_file_brings_its_settings_back(studio, name, tmp_path):
    settings = GenerationSettings(prompt="night", num_steps=3, seed=77, fps=5)
    [clip] = [clip for step in studio.models.service(name).generate(settings) for clip in step.finished]
    save_clip(clip, tmp_path / "clip.webp")
    view = studio.read_file(tmp_path / "clip.webp")
    assert (view["prompt"]["value"], view["seed"]["value"], view["fps"]["value"]) == ("night", 77, 5)
    assert view["random_seed"] is False and "are back" in view["status"]


def test_a_file_of_a_model_that_is_not_here_says_so(studio, make_checkpoint, tmp_path):
    other = GenerationService.load(make_checkpoint("elsewhere/other.safetensors"), device="cpu")
    [clip] = [c for step in other.generate(GenerationSettings(num_steps=1)) for c in step.finished]
    save_clip(clip, tmp_path / "clip.gif")
    assert "other.safetensors, which is not here" in studio.read_file(tmp_path / "clip.gif")["status"]


def test_any_other_file_is_a_sentence_without_the_path(studio, tmp_path):
    (tmp_path / "x.gif").write_bytes(b"nothing")
    (tmp_path / "x.txt").write_text("nothing")
    for file in ("x.gif", "x.txt"):
        status = studio.read_file(tmp_path / file)["status"]
        assert file in status and str(tmp_path) not in status and 'role="alert"' in status


@pytest.mark.parametrize(
    "choices, sentence",
    [
        ({"prompt": "  "}, "The prompt is empty"),
        ({"size": 9}, "Size must be a multiple of 2"),
        ({"num_steps": 1001}, "Num_steps: Input should be less than or equal to 1000"),
        ({"prompt": "a" * 1001}, "Prompt: String should have at most 1000 characters"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(studio, name, choices, sentence):
    with pytest.raises(gr.Error) as caught:
        list(studio.generate("me", name, asked() | choices, random_seed=False, made=()))
    assert str(caught.value.message).startswith(sentence) and not caught.value.print_exception


def test_a_model_that_went_away_is_a_sentence(studio):
    with pytest.raises(gr.Error, match="no checkpoint"):
        generate(studio, "runs/gone")
    assert "no checkpoint" in studio.choose("runs/gone")["status"]


def test_too_little_memory_is_a_sentence_and_the_next_clip_works(studio, name, monkeypatch):
    network = studio.models.service(name).network

    def forward(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(network, "forward", forward)
        with pytest.raises(gr.Error, match="need more memory than is free; try fewer frames"):
            generate(studio, name)
    assert merged(generate(studio, name))["visit"]


def test_a_word_is_said_about_words_the_model_never_saw(studio, name):
    assert (
        "&#x27;nihgt&#x27; was in no caption; the nearest is &#x27;night&#x27;"
        in studio.look_at(name, "red nihgt")["status"]
    )
    assert studio.look_at(name, "red night")["status"] == ""
    assert studio.look_at(name, "") == {}


def test_stop_is_answered_at_once_and_rolling_keeps_the_seed(studio):
    assert "Stopped" in studio.stop("me")["status"]
    view = studio.roll()
    assert 0 <= view["seed"] < 2**32 and view["random_seed"] is False


def test_an_answer_to_stop_that_came_after_the_end_is_settled(studio):
    with studio.stops.watched("me"):
        stopping = studio.stop("me")["status"]
        assert "Stopping" in stopping
        assert studio.settle_stopped("me", stopping) == {}
    assert "Stopped" in studio.settle_stopped("me", stopping)["status"]
    assert studio.settle_stopped("me", "") == {}


def test_nothing_from_outside_is_markup(studio, name):
    views = generate(studio, name, prompt=HOSTILE, num_steps=4)
    made = merged(views)["visit"]
    views += [studio.bring_back(made[0], made=made), studio.look_at(name, HOSTILE), studio.choose(name)]
    html = [value for view in views for key, value in view.items() if key in ("stage", "status", "gallery", "about")]
    assert html and not any("<img src=x" in text for text in html)
