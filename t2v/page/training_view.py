"""The training view of the page: the runs found, how far they are, their curves and newest samples, kept up to date."""

import hashlib
import json
import re
import shlex
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from gradio.events import api

from t2v.checkpoint.run_folder import RunFolder
from t2v.errors import T2VError
from t2v.training.progress import RunStatus, find_runs, read_status
from t2v.training.request import TrainRequest, duration

REFRESH_S = 3
ENLARGED_WIDTH = 560  # in pixels; sheets up to this width are shown twice as large
MAX_SHEET_BYTES = 10_000_000
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"  # the width follows
EACH, MEAN = "each logged step", "running mean"
LINE_COLORS = {EACH: "#8fa3bf", MEAN: "#e8590c"}  # seen on a dark page and on a light one
PUBLISHED = (
    "name",
    "state",
    "step",
    "num_steps",
    "saved_step",
    "sheet_step",
    "clips_per_step",
    "clips_per_second",
    "loss",
    "seconds",
    "seconds_left",
)
SHEET_CSS = """
figure { margin: 0; }
figcaption { margin-bottom: var(--spacing-md); }
.frames { overflow-x: auto; }
.frames img { display: block; margin: 0; border-radius: var(--radius-sm); image-rendering: pixelated; }
"""


def build_training_view(runs: Path, tab: gr.Tab) -> None:
    """Show the runs in the folder `runs` inside `tab`, which stands in gr.Tabs and is refreshed while it is selected.

    Also makes the endpoint /runs, which tells how far every run is.
    """
    tabs = tab.parent
    assert isinstance(tabs, gr.Tabs)
    names = [run.path.name for run in find_runs(runs)]
    choice = gr.Dropdown(names, label="Run", interactive=True, visible=bool(names))
    words = gr.HTML()
    with gr.Column(visible=False) as details:
        with gr.Row():
            loss, rate = _loss_plot(), _rate_plot()
        sheet = gr.HTML(css_template=SHEET_CSS)
    # What is shown is known by the browser alone: an answer that is lost or late then cannot make it look up to date.
    shown = gr.Textbox("{}", visible=False)
    timer = gr.Timer(REFRESH_S, active=False)
    places = {"runs": choice, "words": words, "details": details, "loss": loss, "rate": rate, "sheet": sheet}

    def refresh(chosen: Any, shown_before: Any) -> Any:
        changed, shown_now = changes(look(runs, chosen), shown_before)
        return {places[name]: value for name, value in changed.items()} | {shown: shown_now} if changed else gr.skip()

    def show(chosen: Any) -> Any:
        return refresh(chosen, "{}")

    def enter(chosen: Any) -> Any:
        return show(chosen) | {timer: gr.Timer(active=True)}

    def leave(event: gr.SelectData) -> Any:
        return gr.skip() if event.value == tab.label else gr.Timer(active=False)

    outputs = [*places.values(), shown]
    tab.select(enter, choice, [timer, *outputs], **_quietly())
    tabs.select(leave, None, timer, **_quietly())
    choice.input(show, choice, outputs, **_quietly())
    timer.tick(refresh, [choice, shown], outputs, **_quietly())
    _add_endpoint(runs)


def _quietly() -> dict[str, Any]:
    """How the view's own events run: beside the queue, unseen, and with what the browser sends as it is.

    The last because gr.Dropdown would refuse the name of a run that was removed since it was chosen.
    """
    return {"queue": False, "show_progress": "hidden", "api_visibility": "private", "preprocess": False}


def _loss_plot() -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y="loss",
        color="line",
        color_map=LINE_COLORS,
        color_title=" ",
        label="Loss by step",
        min_width=320,
        visible=False,
    )


def _rate_plot() -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y="clips a second",
        y_lim=[0, None],
        label="Clips a second by step",
        min_width=320,
        visible=False,
    )


def _add_endpoint(runs: Path) -> None:
    def list_runs() -> list[dict[str, Any]]:
        """How far every run is, the one with the newest activity first."""
        return publish(runs)

    api(list_runs, api_name="runs", queue=False)


@dataclass(frozen=True)
class Part:
    """A part of the view. key: differs where the content does. update: makes what its Gradio component is given."""

    key: str
    update: Callable[[], Any]


def look(runs: Path, chosen: Any) -> dict[str, Part]:
    """What there is to see now for somebody who chose the run of that name; without one it is the newest run.

    chosen: as a browser sent it, so anything.
    """
    found = {run.path.name: run for run in find_runs(runs)}
    is_there = isinstance(chosen, str) and chosen in found
    name = chosen if is_there else next(iter(found), None)
    status, words = (None, _no_runs(runs)) if name is None else _status_in_words(found[name])
    # A choice that stands is not sent along: the browser may have another one by the time it arrives.
    value = {} if is_there else {"value": name}
    parts = {
        # Sorted: where two runs train at once, the newest activity is now here, now there.
        "runs": _part((sorted(found), is_there), lambda: gr.update(choices=[*found], visible=bool(found), **value)),
        "words": _part(words, lambda: _paragraph(words)),
        "details": _part(status is None, lambda: gr.update(visible=status is not None)),
    }
    return parts if status is None else parts | _pictures(status)


def changes(parts: Mapping[str, Part], shown: Any) -> tuple[dict[str, Any], str]:
    """Updates for the parts that differ from what is shown, and what is shown after them.

    shown: what this returned before, or anything at all, which then counts as nothing.
    """
    before = _keys(shown)
    changed = {name: part.update() for name, part in parts.items() if part.key != before.get(name)}
    return changed, json.dumps({name: part.key for name, part in parts.items()})


def _keys(shown: Any) -> dict[str, Any]:
    try:
        keys = json.loads(shown)
    except (TypeError, ValueError):
        return {}
    return keys if isinstance(keys, dict) else {}


def _part(content: Any, update: Callable[[], Any]) -> Part:
    return Part(hashlib.sha256(repr(content).encode()).hexdigest()[:16], update)


def _pictures(status: RunStatus) -> dict[str, Part]:
    version = None if status.sheet is None else _version(status.sheet)
    return {
        "loss": _part((status.name, status.loss_curve), lambda: _plot(_loss_frame(status))),
        "rate": _part((status.name, status.rate_curve), lambda: _plot(_rate_frame(status))),
        "sheet": _part((status.name, status.sheet, version), lambda: _figure(status, version)),
    }


def publish(runs: Path) -> list[dict[str, Any]]:
    """How far every run is, for programs: no curves and no paths. A run that cannot be read has a name and an error."""
    return [_published(run) for run in find_runs(runs)]


def _published(run: RunFolder) -> dict[str, Any]:
    try:
        status = read_status(run)
    except T2VError as error:
        return {"name": run.path.name, "error": str(error)}
    return {key: getattr(status, key) for key in PUBLISHED}


def _no_runs(runs: Path) -> str:
    return f"no runs in {runs.absolute().name}; start one with `t2v train ./gifs`"


def _status_in_words(run: RunFolder) -> tuple[RunStatus | None, str]:
    try:
        status = read_status(run)
    except T2VError as error:
        return None, str(error)
    return status, in_words(status, run)


def in_words(status: RunStatus, run: RunFolder) -> str:
    """How far a run is, in one sentence; a command in it stands between backticks."""
    done, loss = f"step {status.step:,} of {status.num_steps:,}", _if_known(", loss {}", status.loss)
    if status.state == "finished":
        return f"{status.name}: finished, {status.num_steps:,} steps in {duration(status.seconds)}{loss}"
    if status.state == "stopped":
        start = "" if status.saved_step in (None, status.step) else f" from step {status.saved_step:,}"
        return f"{status.name}: stopped at {done}{loss}; `{resume_command(status, run)}` goes on{start}"
    left = "" if status.seconds_left is None else f", about {duration(status.seconds_left)} left"
    if status.step == 0:
        return f"{status.name}: about to take the first of {status.num_steps:,} steps{left}"
    return f"{status.name}: {done}{loss}{_if_known(', {} clips a second', status.clips_per_second)}{left}"


def resume_command(status: RunStatus, run: RunFolder) -> str:
    """What goes on with the run, typed in the folder that the page was started in."""
    clips = Path(status.clips_folder)
    command = ["t2v", "train", _shown_path(clips)]
    if TrainRequest(clips=clips).run.path.resolve() != run.path.resolve():
        command += ["--out", _shown_path(run.path)]
    return shlex.join(command)


def _shown_path(path: Path) -> str:
    """A path below the folder that the page was started in; of any other only its name, as others may read the page."""
    here, full = Path.cwd(), path.absolute()
    return str(full.relative_to(here)) if full.is_relative_to(here) else f".../{full.name}"


def _if_known(words: str, number: float | None) -> str:
    if number is None:
        return ""
    return words.format(f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}")


def _paragraph(words: str) -> str:
    """Words as HTML, with what stands between backticks as code."""
    return "<p>" + re.sub("`([^`]*)`", r"<code>\1</code>", escape(words)) + "</p>"


def _plot(frame: pd.DataFrame) -> dict[str, Any]:
    """An update that shows the plot of a frame, or hides it where there is no line to draw yet.

    Hidden, and not emptied: Gradio's plot takes the names of its lines for numbers once it was given none, and its
    script fails when its frame is taken away.
    """
    return gr.update(value=frame, visible=True) if frame["step"].nunique() > 1 else gr.update(visible=False)


def _loss_frame(status: RunStatus) -> pd.DataFrame:
    """Each logged loss first, so that the mean is drawn over it."""
    curve = status.loss_curve
    return pd.DataFrame(
        {
            "step": [point.step for point in curve] * 2,
            "loss": [point.loss for point in curve] + [point.smooth_loss for point in curve],
            "line": [EACH] * len(curve) + [MEAN] * len(curve),
        }
    )


def _rate_frame(status: RunStatus) -> pd.DataFrame:
    curve = status.rate_curve
    return pd.DataFrame(
        {"step": [point.step for point in curve], "clips a second": [point.clips_per_second for point in curve]}
    )


def _figure(status: RunStatus, version: int | None) -> str:
    """The newest sample sheet as HTML; without one, words about that."""
    if status.sheet is None or version is None:
        return "<p>no samples yet</p>"
    picture = _picture(status.sheet, version)
    if picture is None:
        return f"<p>the samples at step {status.sheet_step:,} are damaged, or too large for a page</p>"
    title = f"Samples at step {status.sheet_step:,}"
    prompts = "; ".join(prompt or "without text" for prompt in status.prompts)
    words = f"{title}: a row for each prompt, its frames from left to right. The prompts: {prompts}"
    return (
        f"<figure><figcaption>{title}</figcaption>"
        f'<div class="frames" role="region" tabindex="0" aria-label="{title}">'
        f'<img alt="{escape(words)}" style="{picture.style}" src="{picture.address}"></div></figure>'
    )


@dataclass(frozen=True)
class _Picture:
    """An image's whole content as an address, and how large it is shown."""

    address: str
    style: str


@lru_cache(maxsize=4)
def _picture(sheet: Path, version: int) -> _Picture | None:
    """Kept, so that the visitors of a page share one. None for a file that no page should hold."""
    try:
        content = sheet.read_bytes() if sheet.stat().st_size <= MAX_SHEET_BYTES else b""
    except OSError:  # removed just now
        return None
    if not content.startswith(PNG_START):
        return None
    width = int.from_bytes(content[len(PNG_START) :][:4])
    # Enlarged where there is room; where there is not, it is scrolled, so that its words stay readable.
    wide = 2 * width if width <= ENLARGED_WIDTH else width
    style = f"width: {wide}px; max-width: 100%; min-width: {width}px"
    return _Picture(f"data:image/png;base64,{b64encode(content).decode()}", style)


def _version(picture: Path) -> int | None:
    try:
        return picture.stat().st_mtime_ns
    except OSError:
        return None
