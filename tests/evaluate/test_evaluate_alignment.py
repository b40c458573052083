"""Alignment: what is right scores as right, what is wrong does not, and nothing that was drawn is ever lost."""

import json
import re

import numpy as np
import pytest

from t2v.config import GenerationSettings
from t2v.evaluate.alignment import mismatches
from t2v.evaluate.drawing import Drawer, Wish
from t2v.evaluate.html import page_of
from t2v.evaluate.request import EvaluationRequest
from t2v.evaluate.run import Evaluation
from t2v.evaluate.text import lines_of
from t2v.evaluation.reading import nothing
from t2v.service import GenerationService

BLACK = np.zeros((10, 64, 64, 3), np.uint8)


def request(**choices):
    asked = GenerationSettings(**({"num_steps": 2, "seed": 0} | choices.pop("settings", {})))
    return EvaluationRequest(settings=asked, **({"measures": ("alignment",)} | choices))


def report_of(service, cache, *, steps=None, say=lambda line: None, **choices):
    """The report of an evaluation, or of the first so many steps of it."""
    with Evaluation(service, request(**choices), cache=cache, say=say) as evaluation:
        for number, _ in enumerate(evaluation.steps(), start=1):
            if number == steps:
                break
        return evaluation.report()


def page(service, cache, **choices):
    with Evaluation(service, request(**choices), cache=cache, say=lambda line: None) as evaluation:
        for _ in evaluation.steps():
            pass
        return page_of(evaluation.report(), evaluation.frames_of)


def scores(report):
    kinds = [split["kinds"] for split in report.as_dict()["alignment"]["splits"].values()]
    return [(name, kind["all"]["right"], kind["all"]["clips"]) for split in kinds for name, kind in split.items()]


def test_a_model_that_draws_what_is_asked_is_right_in_everything(service, cache, true_clips, draw_instead):
    draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    report = report_of(service, cache)
    assert not report.is_partial
    assert len(report.alignment.judged) == len(true_clips)
    assert all(one.is_right for one in report.alignment.judged), [mismatches(one) for one in report.alignment.judged]
    assert all(right == clips > 0 for _, right, clips in scores(report))


def test_a_model_that_draws_what_others_asked_for_is_not(service, cache, true_clips, draw_instead):
    others = dict(zip(true_clips, [*list(true_clips)[1:], *list(true_clips)[:1]], strict=True))
    draw_instead(lambda prompt, seed: true_clips[others[prompt]].frames)
    assert sum(right for _, right, _ in scores(report_of(service, cache))) <= 1


def test_a_black_clip_is_wrong_and_it_is_said_what_was_seen(service, cache, true_clips, draw_instead):
    draw_instead(lambda prompt, seed: BLACK)
    report = report_of(service, cache)
    assert [right for _, right, _ in scores(report)] == [0] * len(scores(report))
    for one in report.alignment.judged:
        family = one.question.prompt.facts["family"]
        assert mismatches(one) == [("family", family, "nothing")]


def test_only_the_attribute_that_differs_is_wrong(service, cache, true_clips, draw_instead, monkeypatch):
    draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    for clip in true_clips.values():
        clip.facts["subjects"][0]["motion"] = "sideways"
    attributes = {name for one in report_of(service, cache).alignment.judged for name in one.wrong}
    assert attributes == {"motion"}


def test_what_was_judged_before_a_stop_is_reported_as_partial(service, cache, true_clips, draw_instead):
    draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    report = report_of(service, cache, steps=8)
    assert report.is_partial
    assert len(report.alignment.judged) == 4
    assert report.as_dict()["partial"] is True
    lines = lines_of(report)
    assert "alignment: 4 of 9 clips" in "\n".join(lines)
    assert lines[-1].startswith("PARTIAL")


def test_the_same_again_draws_only_what_is_missing_and_ends_as_if_never_stopped(
    service, cache, tmp_path, true_clips, draw_instead
):
    requests = draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    report_of(service, cache, steps=8)
    before = len(requests)
    said = []
    resumed = report_of(service, cache, say=said.append)
    assert before == 4 and len(requests) == 9
    assert said[0] == "4 clips of 9 were drawn before"
    unbroken = report_of(service, tmp_path / "another")
    assert resumed.as_dict()["alignment"] == unbroken.as_dict()["alignment"]


def test_clips_of_one_prompt_are_told_apart_by_their_seeds(service, cache, draw_instead):
    requests = draw_instead(lambda prompt, seed: np.full_like(BLACK, seed))
    wishes = [Wish("a", 1), Wish("a", 2), Wish("b", 1), Wish("a", 1)]
    with Drawer(service, GenerationSettings(), cache=cache, say=lambda line: None) as drawer:
        drawn = [clip.frames.max() for clip in drawer.draw(wishes) if clip is not None]
    assert drawn == [1, 2, 1, 1]
    assert [(asked.prompt, asked.seed) for asked in requests] == [("a", 1), ("a", 2), ("b", 1)]


def test_another_judge_judges_what_was_drawn(service, cache, true_clips, draw_instead, monkeypatch):
    requests = draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    report_of(service, cache)
    monkeypatch.setattr("t2v.evaluate.alignment.judge", lambda frames: nothing())
    assert sum(right for _, right, _ in scores(report_of(service, cache))) == 0
    assert len(requests) == 9


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_steps": 3}, {"guidance_scale": 3.0}, {"sampler": "ddpm"}])
def test_other_settings_draw_anew(service, cache, true_clips, draw_instead, change):
    requests = draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    report_of(service, cache)
    report_of(service, cache, settings=change)
    assert len(requests) == 18


def test_other_weights_draw_anew(service, cache, true_clips, draw_instead, make_checkpoint, fake_encoder):
    requests = draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    report_of(service, cache)
    data = {"size": 64, "num_frames": 10}
    other = make_checkpoint("other.safetensors", cond_dim=fake_encoder.dim, recipe={"data": data}, step=8)
    report_of(GenerationService.load(other, device="cpu"), cache)
    assert len(requests) == 18


def test_equal_evaluations_draw_equal_clips_in_a_network_that_is_one(make_checkpoint, fake_encoder, cache, true_clips):
    data = {"size": 32, "num_frames": 4}
    path = make_checkpoint("drawn.safetensors", cond_dim=fake_encoder.dim, recipe={"data": data})
    reports = [report_of(GenerationService.load(path, device="cpu"), where, num_prompts=1) for where in (cache, None)]
    assert reports[0].as_dict()["alignment"] == reports[1].as_dict()["alignment"]
    assert len(reports[0].alignment.judged) == 3


@pytest.mark.parametrize(
    "recipe, cond_dim, reason",
    [
        ({"data": {"size": 64, "num_frames": 10}}, None, "trained without captions"),
        ({"data": {"size": 16, "num_frames": 10}}, 6, "at least 4 frames of 32 pixels, not 10 of 16"),
        ({"data": {"size": 64, "num_frames": 3}}, 6, "at least 4 frames of 32 pixels, not 3 of 64"),
        ({"data": {"size": 64, "num_frames": 10, "channels": 1}}, 6, "this model has 1 channels"),
    ],
)
def test_what_cannot_be_judged_is_said(make_checkpoint, fake_encoder, cache, recipe, cond_dim, reason):
    path = make_checkpoint("odd.safetensors", cond_dim=cond_dim, recipe=recipe)
    report = report_of(GenerationService.load(path, device="cpu"), cache)
    assert report.alignment is None
    assert any("alignment is not measured" in note and reason in note for note in report.notes)


def test_a_template_of_training_is_not_put_around_prompts_and_that_is_said(
    make_checkpoint, fake_encoder, cache, true_clips, draw_instead
):
    requests = draw_instead(lambda prompt, seed: BLACK)
    recipe = {"data": {"size": 64, "num_frames": 10}, "text": {"template": "a sprite of {caption}"}}
    path = make_checkpoint("sprites.safetensors", cond_dim=fake_encoder.dim, recipe=recipe)
    report = report_of(GenerationService.load(path, device="cpu"), cache, num_prompts=1)
    assert {asked.prompt for asked in requests} <= set(true_clips)
    assert any("'a sprite of {caption}', and prompts are asked without it" in note for note in report.notes)


def test_the_report_is_json_and_says_how_to_take_it_again(service, cache, true_clips, draw_instead):
    draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    told = json.loads(json.dumps(report_of(service, cache).as_dict()))
    assert told["checkpoint_sha256"] == service.checkpoint.sha256
    assert told["judge_version"] >= 1 and told["settings"]["num_steps"] == 2 and told["settings"]["size"] == 64
    one = told["alignment"]["judged"][0]
    assert {"prompt", "seed", "asked", "seen", "verdicts", "right"} <= one.keys()


# The page.


def test_the_page_shows_every_failure_and_says_what_was_wrong(service, cache, true_clips, draw_instead):
    names = list(true_clips)
    draw_instead(lambda prompt, seed: true_clips[prompt].frames if prompt in names[:5] else BLACK)
    text = page(service, cache)
    assert "All failures: 4 clips" in text
    failures = text.split("All failures")[1]
    for name in names:
        assert (name.replace("<b>", "&lt;b&gt;") in failures) == (name in names[5:])
    assert failures.count("seen: nothing") == 4


def test_the_page_is_whole_in_itself_and_escapes_what_is_asked(service, cache, true_clips, draw_instead):
    draw_instead(lambda prompt, seed: true_clips[prompt].frames)
    text = page(service, cache)
    assert "<script" not in text and "http:" not in text and "https:" not in text
    assert "world 0 <b>" not in text and "world 0 &lt;b&gt;" in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text and "prefers-reduced-motion" in text
    assert text.count("data:image/webp;base64,") == 2 * len(true_clips)  # each moving, and still for who wants that


def test_of_many_clips_the_page_shows_some_but_every_failure(service, cache, true_clips, draw_instead, monkeypatch):
    monkeypatch.setattr("t2v.evaluate.html.NUM_SHOWN", 3)
    wrong = list(true_clips)[4:6]
    draw_instead(lambda prompt, seed: BLACK if prompt in wrong else true_clips[prompt].frames)
    text = page(service, cache)
    shown, failures = text.split("<h2>Judged clips")[1].split("<h2>All failures")
    assert shown.count("<figure") == 3 and failures.count("<figure") == 2
    assert 2 * 3 <= text.count("data:image/webp;base64,") <= 2 * 5
    for name in re.findall(r'class="picture (\w+)"', text):
        assert f".{name}{{background-image:url(data:image/webp;base64," in text
