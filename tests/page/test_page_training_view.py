"""The training view: what it says of runs, what of it is sent again, and how it behaves in a browser."""

import base64
import json
import os
import re
import shlex
import shutil
import time
from html.parser import HTMLParser

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from t2v.checkpoint.run_folder import RunFolder
from t2v.page.training_view import MAX_SHEET_BYTES, REFRESH_S, build_training_view, changes, look, publish
from t2v.reading import recipe_from_mapping
from t2v.training.plan import Machine, Plan, Stretch, save_plan

HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} \"'&`"
NUM_STEPS = 50


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def make_run(folder, *, steps=0, **changed):
    """A run of so many steps of 2 clips and half a second each."""
    run = RunFolder(folder)
    run.samples.mkdir(parents=True)
    recipe = recipe_from_mapping({"train": {"num_steps": NUM_STEPS, "batch_size": 2, "save_every": 10}})
    fields = {
        "recipe": recipe,
        "precision": "fp32",
        "precision_reason": "as asked",
        "seconds_per_step": 0.5,
        "stretches": (Stretch(start=0, end=NUM_STEPS),),
        "machine": Machine(device="cpu", num_processes=1, threads=1, versions={}),
        "clips_folder": "gifs",
        "clips": {},
        "frame_ms": 100.0,
        "cond_dim": None,
        "encoder_sha256": None,
        "prompts": ("a star", ""),
    }
    save_plan(run, Plan(**fields | changed))
    train(run, range(1, steps + 1))
    return run


def train(run, steps):
    for step in steps:
        run.append_log({"step": step, "loss": 1 / step, "learning_rate": 1e-4, "grad_norm": 1.0, "seconds": step / 2})
        if step % 10 == 0:
            (run.checkpoints / f"step-{step:08d}").mkdir(parents=True)


def draw_sheet(run, step, *, width=30):
    sheet = run.samples / f"step-{step:08d}.png"
    Image.fromarray(np.full((4, width, 3), step, np.uint8)).save(sheet)
    return sheet


def age(run, *, seconds):
    """As if the run had been left alone for so long."""
    then = time.time() - seconds
    for path in (run.plan, run.log):
        if path.exists():
            os.utime(path, (then, then))


def seen(runs, chosen=None):
    """All parts of the view, as a browser gets them that shows nothing yet."""
    return changes(look(runs, chosen), "{}")[0]


def words(runs, chosen=None):
    return seen(runs, chosen)["words"]


class Text(HTMLParser):
    """What a browser makes of some HTML: its tags with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def only(self, tag):
        [attributes] = [attributes for name, attributes in self.tags if name == tag]
        return attributes


def test_without_runs_the_view_says_how_to_start_one(runs):
    parts = seen(runs)
    assert parts["words"] == "<p>no runs in runs; start one with <code>t2v train ./gifs</code></p>"
    assert parts["runs"]["visible"] is parts["details"]["visible"] is False
    assert parts.keys() == {"runs", "words", "details"}


def test_a_run_in_progress_is_told_in_words(runs):
    make_run(runs / "gifs", steps=30)
    mean = seen(runs)["loss"]["value"]["loss"].iloc[-1]
    assert words(runs) == f"<p>gifs: step 30 of 50, loss {mean:.3g}, 4 clips a second, about 10 s left</p>"


def test_a_run_before_its_first_step_is_told_in_words(runs):
    make_run(runs / "gifs")
    assert words(runs) == "<p>gifs: about to take the first of 50 steps, about 25 s left</p>"


def test_a_finished_run_is_told_in_words(runs):
    make_run(runs / "gifs", steps=NUM_STEPS)
    assert re.fullmatch(r"<p>gifs: finished, 50 steps in 25 s, loss 0\.0\d+</p>", words(runs))


def test_a_stopped_run_comes_with_the_command_that_goes_on(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    age(make_run(runs / "gifs", steps=40), seconds=3600)
    age(make_run(runs / "more", steps=43), seconds=3600)
    said = {name: words(runs, name) for name in ("gifs", "more")}
    assert re.search(
        r"gifs: stopped at step 40 of 50, loss 0.\d+; <code>t2v train gifs</code> goes on</p>", said["gifs"]
    )
    assert re.search(r"<code>t2v train gifs --out runs/more</code> goes on from step 40</p>", said["more"])


def test_folders_elsewhere_are_shown_by_their_names_only(runs, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    age(make_run(runs / "run", steps=3, clips_folder=str(runs / "my gifs")), seconds=3600)
    draw_sheet(RunFolder(runs / "run"), 3)
    view = seen(runs)
    command = re.search("<code>(.*)</code>", view["words"])[1]
    assert shlex.split(Text(command).text) == ["t2v", "train", ".../my gifs", "--out", ".../run"]
    assert str(runs.parent) not in str(view)


def test_a_damaged_run_is_one_sentence_and_the_others_go_on(runs):
    make_run(runs / "good", steps=1)
    make_run(runs / "bad").plan.write_text("{")
    bad, good = seen(runs, "bad"), seen(runs, "good")
    assert bad["words"].startswith("<p>the run bad cannot be read") and not bad["details"]["visible"]
    assert set(bad["runs"]["choices"]) == set(good["runs"]["choices"]) == {"good", "bad"}
    assert "step 1 of 50" in good["words"] and good["details"]["visible"]


def test_the_curves_are_frames_of_what_was_logged(runs):
    make_run(runs / "gifs", steps=4)
    loss, rate = (seen(runs)[part]["value"] for part in ("loss", "rate"))
    each = loss[loss["line"] == "each logged step"]
    assert each["step"].tolist() == [1, 2, 3, 4] and each["loss"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    mean = loss[loss["line"] == "running mean"]
    assert mean["step"].tolist() == [1, 2, 3, 4] and (mean["loss"].diff()[1:] < 0).all()
    assert rate["step"].tolist() == [1, 2, 3, 4] and rate["clips a second"].tolist() == pytest.approx([4.0] * 4)


def test_there_is_no_plot_before_there_is_a_line_to_draw(runs):
    run = make_run(runs / "gifs")
    for steps in ([], [1]):
        train(run, steps)
        assert not any(seen(runs)[part]["visible"] for part in ("loss", "rate"))
    train(run, [2])
    assert all(seen(runs)[part]["visible"] for part in ("loss", "rate"))


def test_a_quiet_refresh_sends_nothing(runs):
    draw_sheet(make_run(runs / "gifs", steps=40), 40)
    _, shown = changes(look(runs, "gifs"), "{}")
    assert changes(look(runs, "gifs"), shown) == ({}, shown)


def test_only_what_changed_is_sent_again(runs):
    run = make_run(runs / "gifs", steps=11)
    draw_sheet(run, 11)
    shown = changes(look(runs, "gifs"), "{}")[1]

    def sent(chosen="gifs"):
        nonlocal shown
        parts, shown = changes(look(runs, chosen), shown)
        return set(parts)

    train(run, [12])
    assert sent() == {"words", "loss", "rate"}
    sheet = draw_sheet(run, 12)
    assert sent() == {"sheet"}
    sheet.write_bytes(draw_sheet(make_run(runs.parent / "beside"), 7).read_bytes())  # a resume draws it once more
    assert sent() == {"sheet"}
    other = make_run(runs / "other", steps=12)
    assert sent() == {"runs"}
    draw_sheet(other, 12)
    assert sent("other") >= {"words", "loss", "rate", "sheet"}
    run.plan.write_text("{")
    assert sent("gifs") == {"words", "details"}
    assert sent("other") >= {"words", "details", "loss", "rate", "sheet"}


def test_a_run_that_appears_leaves_the_choice_alone(runs):
    age(make_run(runs / "old", steps=1), seconds=60)
    shown = changes(look(runs, "old"), "{}")[1]
    make_run(runs / "new", steps=1)
    parts, _ = changes(look(runs, "old"), shown)
    assert parts["runs"]["choices"] == ["new", "old"] and "value" not in parts["runs"]


def test_two_live_runs_do_not_trade_places(runs):
    first, second = make_run(runs / "a", steps=1), make_run(runs / "b", steps=1)
    age(first, seconds=5)
    shown = changes(look(runs, "a"), "{}")[1]
    age(second, seconds=10)
    assert "runs" not in changes(look(runs, "a"), shown)[0]


@pytest.mark.parametrize("chosen", [None, "gone", "../runs/new", "", 7, ["new"], {"new": 1}], ids=repr)
def test_for_a_choice_that_is_not_there_the_newest_run_is_shown(runs, chosen):
    age(make_run(runs / "old", steps=1), seconds=60)
    make_run(runs / "new", steps=2)
    parts = seen(runs, chosen)
    assert parts["runs"]["value"] == "new" and "new: step 2" in parts["words"]


@pytest.mark.parametrize("shown", [None, "", "{", "[]", "7", 7, ["words"], '{"words": ["x"]}', "null"], ids=repr)
def test_what_a_browser_makes_up_counts_as_nothing(runs, shown):
    make_run(runs / "gifs", steps=1)
    parts = look(runs, "gifs")
    assert changes(parts, shown)[0].keys() == parts.keys()


def test_names_from_the_disk_are_text_and_never_html(runs):
    run = make_run(runs / HOSTILE, steps=3, prompts=(HOSTILE,), clips_folder=HOSTILE)
    draw_sheet(run, 3)
    age(run, seconds=3600)
    view = seen(runs)
    said, figure = Text(view["words"]), Text(view["sheet"])
    assert {tag for tag, _ in said.tags} <= {"p", "code"} and said.text.startswith(HOSTILE.rstrip("`"))
    assert [tag for tag, _ in figure.tags] == ["figure", "figcaption", "div", "img"]
    assert figure.only("img").keys() == {"alt", "src", "style"} and HOSTILE in figure.only("img")["alt"]
    run.plan.write_text("{")
    assert {tag for tag, _ in Text(words(runs)).tags} <= {"p", "code"}


def test_the_newest_sheet_is_an_image_with_words_for_those_who_do_not_see_it(runs):
    run = make_run(runs / "gifs", steps=3)
    assert seen(runs)["sheet"] == "<p>no samples yet</p>"
    draw_sheet(run, 2)
    sheet = draw_sheet(run, 3)
    figure = Text(seen(runs)["sheet"])
    kind, _, content = figure.only("img")["src"].partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(content) == sheet.read_bytes()
    assert "step 3" in figure.only("img")["alt"] and "a star; without text" in figure.only("img")["alt"]
    assert figure.text == "Samples at step 3"


@pytest.mark.parametrize("width, shown", [(320, 640), (1000, 1000)])
def test_a_small_sheet_is_enlarged_and_none_is_shrunk(runs, width, shown):
    draw_sheet(make_run(runs / "gifs"), 0, width=width)
    style = Text(seen(runs)["sheet"]).only("img")["style"]
    assert f"width: {shown}px; max-width: 100%; min-width: {width}px" == style


@pytest.mark.parametrize("content", [b"", b"no picture", b"<svg onload='alert(1)'>", b"\x89PNG"])
def test_a_sheet_that_is_no_picture_is_not_sent(runs, content):
    run = make_run(runs / "gifs", steps=3)
    draw_sheet(run, 3).write_bytes(content)
    assert seen(runs)["sheet"] == "<p>the samples at step 3 are damaged, or too large for a page</p>"


def test_a_sheet_that_is_too_large_for_a_page_is_not_sent(runs):
    sheet = draw_sheet(make_run(runs / "gifs", steps=3), 3)
    with sheet.open("ab") as file:
        file.write(bytes(MAX_SHEET_BYTES))
    assert seen(runs)["sheet"] == "<p>the samples at step 3 are damaged, or too large for a page</p>"


def test_programs_are_told_of_all_runs_without_curves_and_paths(runs):
    age(make_run(runs / "old", steps=NUM_STEPS), seconds=3600)
    make_run(runs / "bad").plan.write_text("{")
    draw_sheet(make_run(runs / "new", steps=30), 30)
    told = json.loads(json.dumps(publish(runs)))
    by_name = {status["name"]: status for status in told}
    assert told[-1]["name"] == "old" and by_name["old"]["state"] == "finished"
    assert by_name["bad"].keys() == {"name", "error"}
    new = by_name["new"]
    assert (new["state"], new["step"], new["num_steps"], new["sheet_step"]) == ("training", 30, NUM_STEPS, 30)
    assert (new["clips_per_second"], new["seconds_left"]) == pytest.approx((4.0, 10.0))
    assert all(isinstance(value, str | int | float | None) for value in new.values())
    assert str(runs.parent) not in json.dumps(told)


def test_events_of_the_view_stay_beside_the_queue_and_out_of_sight(runs):
    with gr.Blocks(analytics_enabled=False) as page, gr.Tabs(), gr.Tab("Training") as tab:
        build_training_view(runs, tab)
    events = {event.api_name: event for event in page.fns.values()}
    runs_endpoint = events.pop("runs")
    assert runs_endpoint.api_visibility == "public" and runs_endpoint.queue is False
    assert len(events) == 4
    for event in events.values():
        assert (event.queue, event.show_progress, event.api_visibility) == (False, "hidden", "private")
    [timer] = [block for block in page.blocks.values() if isinstance(block, gr.Timer)]
    assert (timer.value, timer.active) == (REFRESH_S, False)


def test_the_endpoint_answers_clients(serve, runs):
    make_run(runs / "gifs", steps=2)
    client = Client(serve(), verbose=False)
    assert [(run["name"], run["step"]) for run in client.predict(api_name="/runs")] == [("gifs", 2)]


@pytest.fixture
def watch(serve, visit):
    """watch(**options of Browser.new_context) opens the page's training tab as a new visitor."""

    def open_tab(**options):
        visitor = visit(serve(), **options)
        visitor.page.get_by_role("tab", name="Training").click()
        return visitor

    return open_tab


@pytest.mark.browser
def test_a_visitor_watches_a_run_from_its_first_step_to_its_end(watch, runs):
    from playwright.sync_api import expect

    page = watch().page
    expect(page.get_by_text("no runs in runs")).to_be_visible()
    run = make_run(runs / "gifs")
    expect(page.get_by_text("gifs: about to take the first of 50 steps")).to_be_visible()
    expect(page.get_by_text("no samples yet")).to_be_visible()
    plots = page.locator(".vega-embed")
    expect(plots).to_have_count(0)
    train(run, range(1, 31))
    expect(page.get_by_text("gifs: step 30 of 50")).to_be_visible()
    expect(plots).to_have_count(2)
    expect(plots.first).to_contain_text("running mean")
    draw_sheet(run, 30)
    expect(page.get_by_role("img", name="Samples at step 30")).to_be_visible()
    train(run, range(31, NUM_STEPS + 1))
    expect(page.get_by_text("gifs: finished, 50 steps")).to_be_visible()
    shutil.rmtree(run.path)
    expect(page.get_by_text("no runs in runs")).to_be_visible()
    expect(plots).to_have_count(0)


@pytest.mark.browser
def test_a_choice_survives_the_runs_that_come_and_go(watch, runs):
    from playwright.sync_api import expect

    age(make_run(runs / "old", steps=2), seconds=10)
    make_run(runs / HOSTILE, steps=2)
    page = watch().page
    choice = page.get_by_role("combobox", name="Run")
    expect(choice).to_have_value(HOSTILE)
    choice.click()
    page.get_by_role("option", name="old").click()
    expect(page.get_by_text("old: step 2 of 50")).to_be_visible()
    new = make_run(runs / "new")
    train(RunFolder(runs / "old"), [3])
    expect(page.get_by_text("old: step 3 of 50")).to_be_visible()
    choice.click()
    page.get_by_role("option", name="new").click()
    expect(page.get_by_text("new: about to take the first of 50 steps")).to_be_visible()
    expect(page.locator(".vega-embed")).to_have_count(0)
    shutil.rmtree(new.path)
    expect(page.get_by_text("old: step 3 of 50")).to_be_visible()
    expect(choice).to_have_value("old")
    expect(page.locator(".vega-embed").first).to_contain_text("running mean")


@pytest.mark.browser
def test_a_tab_that_nobody_looks_at_asks_for_nothing(watch, runs):
    from playwright.sync_api import expect

    run = make_run(runs / "gifs", steps=1)
    visitor = watch()
    page = visitor.page

    def is_refresh(request):
        return request.method == "POST" and "/predict" in request.url

    with page.expect_request(is_refresh):
        pass
    page.get_by_role("tab", name="Make clips").click()
    for _ in range(10):  # what was on its way may still come
        before = len(visitor.asked_for)
        page.wait_for_timeout(1000 * REFRESH_S * 1.5)
        if len(visitor.asked_for) == before:
            break
    else:
        pytest.fail("it asked without end")
    train(run, [2])
    page.get_by_role("tab", name="Training").click()
    expect(page.get_by_text("gifs: step 2 of 50")).to_be_visible()
    with page.expect_request(is_refresh):
        pass


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_of_the_view_runs_out_of_the_window(watch, runs, width):
    run = make_run(runs / ("a-very-long-name-of-a-run-" * 4), steps=3, clips_folder="a/folder/" * 20)
    age(run, seconds=3600)
    draw_sheet(run, 3, width=1000)
    page = watch(viewport={"width": width, "height": 800}).page
    page.get_by_role("img", name="Samples at step 3").wait_for()
    page.locator(".vega-embed").nth(1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width
