"""What is said about captions in files and settings reaches the run, its plan and its checkpoint."""

import json
from typing import Any

import pytest

from t2v.checkpoint import read_header
from t2v.errors import RunError, SettingsError
from t2v.training.plan import load_plan


@pytest.fixture
def captioned(bench: Any, fake_encoder: Any) -> Any:
    """The bench, with two captions for the first clip, one for the second and none for the third."""
    content = {"00.gif": ["a cat", "one cat"], "01": "a dog"}
    (bench.clips / "captions.json").write_text(json.dumps(content))
    return bench


def entries(bench: Any) -> list[dict[str, Any]]:
    """What the plan knows of each clip's captions."""
    return [
        {name: value for name, value in clip.items() if name != "sha256"}
        for clip in load_plan(bench.run).clips.values()
    ]


def test_captions_of_a_file_are_trained_on(captioned: Any, fake_encoder: Any) -> None:
    captioned.train()
    assert entries(captioned) == [{"captions": ["a cat", "one cat"]}, {"captions": ["a dog"]}, {"captions": []}]
    assert read_header(captioned.out).words == ("a", "cat", "dog", "one")
    assert "warning: 1 clip without a caption among clips that have one: 02.gif" in captioned.last_words


def test_a_template_becomes_part_of_what_is_trained_on(captioned: Any, fake_encoder: Any) -> None:
    captioned.train(template="a sprite of {caption}")
    assert fake_encoder.read[:3] == ["a sprite of a cat", "a sprite of a dog", "a sprite of one cat"]
    assert entries(captioned)[1:] == [{"captions": ["a sprite of a dog"]}, {"captions": []}]
    assert "captions are taken as 'a sprite of {caption}'" in captioned.last_words
    header = read_header(captioned.out)
    assert header.recipe.text.template == "a sprite of {caption}"
    assert {"sprite", "of", "cat"} <= set(header.words)
    assert captioned.open(recipe=None).is_finished


def test_another_template_is_another_run(captioned: Any) -> None:
    captioned.train(template="a sprite of {caption}")
    for template in ("a {caption}", ""):
        with pytest.raises(RunError, match=r"other settings: text\.template is a sprite of \{caption\} in the run and"):
            captioned.open(template=template)


def test_a_template_without_placeholder_captions_every_clip(bench: Any, fake_encoder: Any) -> None:
    (bench.clips / "00.txt").write_text("a cat")
    (bench.clips / "01.txt").write_text("")
    bench.train(template="2024")
    assert entries(bench) == [{"captions": ["2024"]}, {"captions": []}, {"captions": ["2024"]}]
    assert "every clip is captioned '2024'; the 1 with captions of their own lose them" in bench.last_words
    assert "without a caption" not in bench.last_words


@pytest.mark.parametrize("template", ["a {thing}", "a {caption", "{}", "{caption} {captions}"])
def test_unknown_placeholders_are_refused_before_anything_is_made(bench: Any, template: str) -> None:
    with pytest.raises(
        SettingsError, match=r"text\.template: a template has no placeholder but \{caption\}, and this is"
    ):
        bench.open(template=template)
    assert not bench.out.exists()


def test_weights_and_empty_captions_are_in_the_plan_and_resume_exactly(captioned: Any) -> None:
    content = {"00.gif": [{"caption": "a cat", "weight": 3}, "one cat", ""], "01.gif": ["a dog", ""], "02.gif": ""}
    (captioned.clips / "captions.json").write_text(json.dumps(content))
    captioned.train()
    assert entries(captioned) == [
        {"captions": ["a cat", "one cat", ""], "weights": [3.0, 1.0, 1.0]},
        {"captions": ["a dog", ""]},
        {"captions": []},
    ]
    unbroken = captioned.weights()
    assert "without a caption" not in captioned.last_words  # the empty one is meant
    captioned.train(out=captioned.folder / "other", up_to=3)
    again = captioned.train(out=captioned.folder / "other")
    assert captioned.same(captioned.weights(again.training.run), unbroken)
    content["00.gif"][0]["weight"] = 2
    (captioned.clips / "captions.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"1 clip with other captions: 00\.gif"):
        captioned.open()
