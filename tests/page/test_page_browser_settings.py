"""The page in a real browser: settings that come back, mistakes told in words, and a page that everybody can use."""

import json
import os
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from t2v.data.video_files import write_clip
from t2v.presets import PRESETS

pytestmark = pytest.mark.browser

HOSTILE = '"><img src=x onerror=window.hacked=1>'
# The page's own frame hides what is too wide, so that it would not be seen by the width of the document.
CUT_OFF = """
[...document.querySelectorAll('main :is(p, h1, label, button, input, textarea, a, img, figure, progress)')]
  .filter(element => {
    const {left, right} = element.getBoundingClientRect();
    return left < 0 || right > innerWidth || (element.matches('p') && element.scrollWidth > element.clientWidth);
  }).map(element => element.outerHTML)
"""
CONTROLS = {
    "button",
    "textbox",
    "searchbox",
    "combobox",
    "listbox",
    "slider",
    "spinbutton",
    "checkbox",
    "radio",
    "link",
    "tab",
}


def test_a_click_in_the_gallery_brings_the_settings_back_and_they_make_the_same_clip(serve, visit, tmp_path):
    visitor = visit(serve())
    choices = {"guidance_scale": 3.5, "num_frames": 4, "seed": 77}
    for name, value in choices.items():
        visitor.set(name, value)
    visitor.page.get_by_role("button", name="More settings").click()
    visitor.page.get_by_label("Negative prompt").fill("slow")
    visitor.ask("fireworks at night", steps=6)
    expect(visitor.clip("fireworks at night")).to_contain_text("seed 77")
    for name in choices:
        visitor.set(name, 1)
    visitor.page.get_by_label("Negative prompt").fill("green")
    visitor.random_seed.check()
    visitor.ask("green night", steps=3)
    expect(visitor.clip("green night")).to_be_visible()
    visitor.gallery.nth(1).click()
    expect(visitor.clip("fireworks at night")).to_contain_text("seed 77")
    for name, value in (choices | {"num_steps": 6}).items():
        expect(visitor.number(name)).to_have_value(str(value))
    expect(visitor.prompt).to_have_value("fireworks at night")
    expect(visitor.page.get_by_label("Negative prompt")).to_have_value("slow")
    expect(visitor.random_seed).not_to_be_checked()
    visitor.page.get_by_role("button", name="Generate").click()
    expect(visitor.gallery).to_have_count(3)
    clips = [visitor.file(visitor.gallery.nth(place).locator("img"), tmp_path) for place in range(3)]
    assert clips[0] != clips[2] and clips[0].read_bytes() == clips[2].read_bytes() != clips[1].read_bytes()


def test_a_preset_sets_its_settings_and_says_whose_they_are(serve, visit):
    visitor = visit(serve())
    draft, normal = (visitor.page.get_by_role("radio", name=name) for name in ("draft", "normal"))
    expect(normal).to_be_checked()
    draft.check()
    expect(visitor.number("num_steps")).to_have_value(str(PRESETS["draft"]["num_steps"]))
    visitor.set("num_steps", 3)
    expect(draft).not_to_be_checked()
    visitor.set("num_steps", PRESETS["normal"]["num_steps"])
    expect(normal).to_be_checked()


def test_a_file_brings_its_settings_back_from_the_box_and_dropped_anywhere(serve, visit, tmp_path):
    visitor = visit(serve())
    visitor.set("seed", 77)
    visitor.ask("fireworks at night", steps=6)
    file = visitor.file(visitor.clip("fireworks at night").get_by_role("link", name="Download as GIF"), tmp_path)
    for bring in (choose_file, drop):
        for name in ("seed", "num_steps"):
            visitor.set(name, 1)
        visitor.prompt.fill("green")
        visitor.random_seed.check()
        bring(visitor.page, file)
        expect(visitor.prompt).to_have_value("fireworks at night")
        expect(visitor.number("num_steps")).to_have_value("6")
        expect(visitor.number("seed")).to_have_value("77")
        expect(visitor.random_seed).not_to_be_checked()
        expect(visitor.status).to_have_text("The settings of that clip are back.")


def test_a_file_that_t2v_did_not_make_is_told_in_a_sentence(serve, visit, tmp_path):
    visitor = visit(serve())
    drop(visitor.page, a_gif(tmp_path / "other.gif", made_by="another program"))
    expect(visitor.status.get_by_role("alert")).to_have_text(
        "other.gif does not say how it was made: not by t2v, or written with --no-metadata"
    )
    (tmp_path / "notes.txt").write_text("words")
    drop(visitor.page, tmp_path / "notes.txt")
    expect(visitor.page.get_by_test_id("toast-body")).to_contain_text("Invalid file type")


def test_an_empty_prompt_is_told_in_a_sentence_and_the_page_lives_on(serve, visit):
    visitor = visit(serve())
    visitor.ask("  ")
    sentence = "The prompt is empty; say what to draw, such as 'fireworks at night'."
    expect(visitor.page.get_by_test_id("toast-body")).to_contain_text(sentence)
    expect(visitor.status.get_by_role("alert")).to_have_text(sentence)
    expect(visitor.status.get_by_text("Error", exact=True)).not_to_be_visible()
    visitor.ask("green night")
    expect(visitor.clip("green night")).to_be_visible()
    expect(visitor.status).to_have_text("")


def test_a_word_the_model_never_saw_is_told_with_the_nearest_known_one(serve, visit, gate):
    visitor = visit(serve())
    sentence = "Note: the word 'nihgt' was in no caption; the nearest is 'night'."
    visitor.prompt.fill("green nihgt")
    stop = visitor.stop.bounding_box()
    visitor.prompt.blur()
    hints = visitor.page.locator("#hints")
    expect(hints).to_have_text(sentence)
    assert visitor.stop.bounding_box() == stop  # a press that took the focus away still meets its button
    gate.shut(after=2)
    visitor.page.get_by_role("button", name="Generate").click()
    expect(visitor.status).to_contain_text("step")
    expect(visitor.page.get_by_text(sentence)).to_have_count(1)
    visitor.stop.click()
    gate.open()
    expect(visitor.status).to_have_text("Stopped.")


def test_text_from_outside_is_never_markup(serve, visit, make_checkpoint, fake_encoder, tmp_path):
    told = {"words": ("night", HOSTILE), "example_prompts": (HOSTILE,)}
    broken = tmp_path / "checkpoints" / f"{HOSTILE}.safetensors"
    broken.parent.mkdir()
    broken.write_bytes(b"nothing")
    visitor = visit(serve(checkpoint=make_checkpoint("hostile.safetensors", cond_dim=fake_encoder.dim, **told)))
    page = visitor.page
    page.get_by_role("button", name=HOSTILE, exact=True).click()
    expect(visitor.prompt).to_have_value(HOSTILE)
    visitor.prompt.press("Enter")
    expect(visitor.clip(HOSTILE)).to_be_visible()
    expect(visitor.status).to_contain_text("the words 'img', 'src'")
    visitor.gallery.first.click()
    expect(visitor.status).to_have_text("The settings of that clip are back.")
    drop(page, a_gif(tmp_path / f"{HOSTILE}.gif", prompt=HOSTILE, negative=HOSTILE, checkpoint=HOSTILE))
    expect(visitor.status).to_contain_text(HOSTILE)
    drop(page, a_gif(tmp_path / f"{HOSTILE} 2.gif", sampler=HOSTILE))
    expect(visitor.status.get_by_role("alert")).to_contain_text(HOSTILE)
    choose_model(page, f"checkpoints/{broken.name}")
    expect(visitor.status.get_by_role("alert")).to_contain_text(HOSTILE)
    visitor.ask("night")
    expect(page.get_by_test_id("toast-body")).to_contain_text("safetensors")
    assert not [url for url in visitor.asked_for if url.endswith("/x")]
    assert page.evaluate("window.hacked") is None


def test_a_broken_checkpoint_is_told_in_a_sentence_and_another_one_draws(serve, visit, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "broken.safetensors").write_bytes(b"garbage" * 100)
    visitor = visit(serve())
    good = visitor.page.get_by_label("Checkpoint").input_value()
    choose_model(visitor.page, "checkpoints/broken.safetensors")
    expect(visitor.status.get_by_role("alert")).to_contain_text("broken.safetensors")
    visitor.ask("green night")
    expect(visitor.page.get_by_test_id("toast-body")).to_contain_text("broken.safetensors")
    choose_model(visitor.page, good)
    expect(visitor.status).to_have_text("")
    visitor.ask("green night")
    expect(visitor.clip("green night")).to_be_visible()


def test_every_control_has_a_name_that_can_be_read_out(serve, visit):
    visitor = visit(serve())
    visitor.ask("green night")
    expect(visitor.clip("green night")).to_be_visible()
    visitor.page.get_by_role("button", name="More settings").click()
    expect(visitor.page.get_by_label("Negative prompt")).to_be_visible()
    tree = visitor.context.new_cdp_session(visitor.page).send("Accessibility.getFullAXTree")["nodes"]
    found = [node for node in tree if not node["ignored"] and node["role"]["value"] in CONTROLS]
    on_page = visitor.page.locator(":is(input, select, textarea, button, a):visible:not([aria-hidden=true] *)")
    assert len(found) >= on_page.count() > 30
    assert [node for node in found if not node["name"]["value"].strip()] == []


def test_the_page_fits_every_screen_in_dark_and_in_light(serve, visit, tmp_path):
    visitor = visit(serve())
    page, folder = visitor.page, Path(os.environ.get("T2V_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    visitor.set("num_clips", 3)
    visitor.ask("nihgt " + "w" * 100)
    expect(visitor.gallery).to_have_count(3)
    expect(visitor.status).to_contain_text("nihgt")
    page.get_by_role("button", name="More settings").click()
    expect(page.get_by_label("Negative prompt")).to_be_visible()
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("body.dark")).to_have_count(int(scheme == "dark"))
        for width in (360, 768, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=folder / f"{scheme}-{width}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (scheme, width)
            assert page.evaluate(CUT_OFF) == [], (scheme, width)


def test_the_browser_asks_nothing_of_other_machines(serve, visit):
    visitor = visit(serve())
    visitor.ask("green night")
    expect(visitor.clip("green night")).to_be_visible()
    visitor.page.get_by_role("tab", name="Training").click()
    expect(visitor.page.get_by_text("start one with")).to_be_visible()
    visitor.page.get_by_role("button", name="Use via API").click()
    expect(visitor.page.get_by_text("/generate").first).to_be_visible()
    assert len(visitor.asked_for) > 10  # which the fixture looks through in the end, as after every test


def a_gif(path: Path, **told: object) -> Path:
    """A clip that says of itself what is told."""
    content = {"made_by": "t2v 0", "prompt": "night", "checkpoint": "tiny.safetensors"} | told
    write_clip(path, np.zeros((2, 8, 8, 3), np.uint8), frame_ms=100, metadata=json.dumps(content))
    return path


def choose_file(page, path: Path) -> None:
    page.locator("#bring-back input[type=file]").set_input_files(path)


def drop(page, path: Path) -> None:
    """Let go of a file over the page's title."""
    files = page.evaluate_handle(
        """async ([name, content]) => {
          const files = new DataTransfer();
          const answer = await fetch('data:application/octet-stream;base64,' + content);
          files.items.add(new File([await answer.blob()], name));
          return files;
        }""",
        [path.name, b64encode(path.read_bytes()).decode()],
    )
    page.dispatch_event("#t2v-title", "drop", {"dataTransfer": files})


def choose_model(page, name: str) -> None:
    page.get_by_label("Checkpoint").click()
    page.get_by_role("option", name=name, exact=True).click()
