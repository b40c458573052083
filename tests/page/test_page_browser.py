"""The page in a real browser: from a prompt to a clip, alone and with others in line."""

import re

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image, ImageSequence
from playwright.sync_api import expect

from t2v.data.made_by import read_made_by
from t2v.data.reading import read_clip

pytestmark = pytest.mark.browser

STEP = re.compile(r"step \d+ of 50\b")


def test_a_prompt_becomes_a_clip_that_can_be_watched_while_it_is_made(serve, visit, gate, tmp_path):
    visitor = visit(serve())
    gate.shut(after=3)
    visitor.ask("fireworks at night", steps=50)
    expect(visitor.stage.get_by_alt_text("unfinished: fireworks at night")).to_be_visible()
    expect(visitor.status.get_by_role("progressbar", name="Denoising steps done")).to_be_visible()
    expect(visitor.status).to_contain_text(STEP)
    gate.open()
    figure = visitor.clip("fireworks at night")
    expect(figure).to_contain_text(re.compile(r"seed \d+ .*\d\.\d s"))
    expect(visitor.status.locator("progress")).to_have_count(0)
    seed = int(re.search(r"seed (\d+)", figure.inner_text())[1])
    assert visitor.number("seed").input_value() == str(seed)
    told = read_made_by(visitor.file(figure.locator("img"), tmp_path))
    assert (told["seed"], told["prompt"], told["num_steps"]) == (seed, "fireworks at night", 50)


def test_every_format_has_exactly_the_frames_asked_for(serve, visit, tmp_path):
    visitor = visit(serve())
    visitor.set("num_frames", 5)
    visitor.ask("slow night")
    figure = visitor.clip("slow night")
    expect(figure).to_be_visible()
    files = {link.inner_text(): visitor.file(link, tmp_path) for link in figure.get_by_role("link").all()}
    gif = read_clip(files["GIF"]).frames[..., :3]
    assert gif.shape == (5, 256, 256, 3) and files["GIF"] == visitor.file(figure.locator("img"), tmp_path)
    with Image.open(files["WEBP"]) as webp:
        exact = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(webp)])
    # A GIF has 256 colours, and a video half the sharpness in colour.
    assert exact.shape == gif.shape and abs(exact.astype(int) - gif).mean() < 8
    video = iio.imread(files["MP4"], plugin="pyav")
    assert video.shape == gif.shape and abs(exact.astype(int) - video).mean() < 8
    assert iio.immeta(files["MP4"], plugin="pyav")["video_format"] == "yuv420p"
    seeds = {read_made_by(path)["seed"] for path in files.values()}
    assert seeds == {int(visitor.number("seed").input_value())}


def test_stop_ends_the_work_within_a_step_and_the_next_clip_starts_at_once(serve, visit, gate):
    visitor = visit(serve())
    gate.shut(after=3)
    visitor.ask("fireworks at night", steps=50)
    expect(visitor.status).to_contain_text(STEP)
    gate.wait_for_calls(4)  # the fourth stands before the gate
    visitor.stop.click()
    expect(visitor.status).to_have_text("Stopping after this step")
    gate.open()
    expect(visitor.status).to_have_text("Stopped.")
    visitor.ask("green night", steps=6)
    expect(visitor.clip("green night")).to_be_visible()
    assert gate.calls == 4 + 6
    expect(visitor.gallery).to_have_count(1)


def test_stop_leaves_the_line_and_disturbs_nobody(serve, visit, gate):
    address = serve()
    first, second = visit(address), visit(address)
    gate.shut(after=1)
    first.ask("fireworks at night", steps=50)
    expect(first.status).to_contain_text(STEP)
    second.ask("green night")
    expect(second.status).to_contain_text("queue: 1/1")
    second.stop.click()
    expect(second.status).to_contain_text("Stopped.")
    gate.open()
    expect(first.clip("fireworks at night")).to_be_visible()
    second.ask("slow night", steps=6)
    expect(second.clip("slow night")).to_be_visible()
    assert gate.calls == 50 + 6  # and none for the clip that left the line
    expect(second.gallery).to_have_count(1)


def test_two_visitors_at_once_each_get_their_own_clip(serve, visit, gate, tmp_path):
    address = serve()
    first, second = visit(address), visit(address)
    gate.shut(after=50 + 2)
    first.ask("fireworks at night", steps=50)
    gate.wait_for_calls(1)
    second.ask("green night", steps=50)
    second.status.scroll_into_view_if_needed()
    # Not in the viewport where something cuts it off.
    expect(second.status.get_by_text("queue: 1/1")).to_be_in_viewport(ratio=0.9)
    expect(first.clip("fireworks at night")).to_be_visible()
    expect(second.status).to_contain_text(STEP)
    first.stop.click()
    expect(first.status).to_have_text("Stopped.")
    gate.open()
    expect(second.clip("green night")).to_be_visible()
    for visitor, prompt in ((first, "fireworks at night"), (second, "green night")):
        told = read_made_by(visitor.file(visitor.clip(prompt).locator("img"), tmp_path))
        assert told["prompt"] == prompt and str(told["seed"]) == visitor.number("seed").input_value()
        expect(visitor.gallery).to_have_count(1)
    assert gate.calls == 50 + 50


def test_a_closed_tab_frees_its_place(serve, visit, gate):
    address = serve()
    first, second = visit(address), visit(address)
    gate.delay_s = 0.02
    first.set("num_clips", 8)
    first.ask("fireworks at night", steps=100)
    gate.wait_for_calls(1)
    second.ask("green night")
    expect(second.status).to_contain_text("queue: 1/1")
    first.context.close()
    expect(second.clip("green night")).to_be_visible()
    calls = gate.calls
    assert calls < 8 * 100
    second.ask("slow night", steps=6)
    expect(second.clip("slow night")).to_be_visible()
    assert gate.calls == calls + 6


def test_who_finds_the_line_full_is_told_so(serve, visit, gate):
    address = serve(max_waiting=1)
    first, second, third = visit(address), visit(address), visit(address)
    gate.shut(after=1)
    first.ask("fireworks at night")
    gate.wait_for_calls(1)
    second.ask("green night")
    expect(second.status).to_contain_text("queue: 1/1")
    third.ask("slow night")
    expect(third.page.get_by_test_id("toast-body")).to_contain_text("busy")
    assert third.went_wrong.pop().startswith("503")
    gate.open()
    expect(second.clip("green night")).to_be_visible()
    assert gate.calls == 4 + 4
