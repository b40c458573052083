"""What the page does for a visitor. Answers are views: the parts of the page that change, by name."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from t2v.config import GenerationSettings, PresetName
from t2v.data.made_by import read_made_by, settings_in
from t2v.errors import T2VError
from t2v.page import html
from t2v.page.controls import fitted, settings_of, shown, shown_value
from t2v.page.drawing import Moment, StopButtons, draw
from t2v.page.models import Models
from t2v.page.shelf import KeptClip, Shelf
from t2v.presets import PRESETS, preset_of
from t2v.service import MAX_DRAWN_SEED, check_target

View = dict[str, Any]
MAX_GALLERY = 60


class Studio:
    """The models, the clips made with them, and the visitors' stop buttons."""

    def __init__(self, models: Models, shelf: Shelf) -> None:
        self.models = models
        self.shelf = shelf
        self.stops = StopButtons()

    def arrive(self) -> View:
        """The page of a new visitor."""
        names = self.models.names()
        if not names:
            told = "There is no checkpoint here yet: train one with `t2v train ./gifs`."
            return {"status": html.said(told, kind="error")}
        return self.choose(names[0]) | {"model": gr.update(choices=names, value=names[0])}

    def choose(self, name: str) -> View:
        """After a model was chosen: what it says of itself, what it can do, and the settings it was trained at."""
        try:
            header = self.models.header(name)
        except T2VError as error:
            return {"status": html.said(str(error), kind="error")}
        samples = [[prompt] for prompt in header.example_prompts]
        return fitted(header) | {
            "about": html.about_model(header),
            "examples": gr.update(samples=samples, visible=bool(samples)),
            "status": "",
        }

    def choose_preset(self, name: PresetName) -> View:
        """After a preset was chosen: its settings in the controls."""
        return {setting: shown_value(setting, value) for setting, value in PRESETS[name].items()}

    def look_at(self, name: str, prompt: str) -> View:
        """A word about words that the model never saw."""
        if not prompt.strip() or name not in self.models.names():
            return {}
        try:
            hints = self.models.service(name).hints(GenerationSettings(prompt=prompt[:1000]))
        except T2VError:  # it will be said when a clip is asked for
            return {}
        return {"status": _notes(hints)}

    def generate(
        self, visitor: str, name: str, asked: Mapping[str, Any], *, random_seed: bool, made: Sequence[str]
    ) -> Iterator[View]:
        """Draw what the controls ask for. Raises gradio.Error, in a sentence, for what cannot be done."""
        try:
            yield from self._generate(visitor, name, asked, random_seed=random_seed, made=made)
        except gr.Error as error:
            # Gradio shows its message for a few seconds only.
            yield {"status": html.said(error.message, kind="error")}
            error.message = escape(error.message, quote=False)  # which it takes for HTML
            raise

    def _generate(
        self, visitor: str, name: str, asked: Mapping[str, Any], *, random_seed: bool, made: Sequence[str]
    ) -> Iterator[View]:
        with in_words(), self.stops.watched(visitor) as is_stopped:
            asked = dict(asked, seed=None) if random_seed else asked
            settings = settings_of(asked)
            yield {"status": html.said("Getting ready", kind="under-way")}
            service = self.models.service(name)
            used = service.resolve(settings)
            check_target(self.shelf.folder / "clip.gif", fps=used.fps)  # what the stage shows
            hints = service.hints(used)
            yield {"seed": used.seed, "status": _notes(hints)}
            kept: tuple[KeptClip, ...] = ()
            for moment in draw(service, used, self.shelf, is_stopped=is_stopped):
                view = self._drawn(moment, used, hints)
                if len(moment.finished) > len(kept):
                    made = [*made, *(clip.id for clip in moment.finished[len(kept) :])][-MAX_GALLERY:]
                    view |= {"visit": made, "gallery": html.gallery(self._still_here(made))}
                    kept = moment.finished
                yield view

    def stop(self, visitor: str) -> View:
        """After Stop was pressed."""
        if self.stops.press(visitor):
            return {"status": html.said("Stopping after this step", kind="under-way")}
        return {"status": html.said("Stopped.")}

    def settle(self, status: str) -> View:
        """When a request is over, however it ended. status: what the page still says."""
        return {"status": html.said("Stopped.")} if html.is_under_way(status) else {}

    def settle_stopped(self, visitor: str, status: str) -> View:
        """Once the page shows the answer to Stop, if what was to be stopped is over. status: what the page says."""
        return {} if self.stops.is_under_way(visitor) else self.settle(status)

    def bring_back(self, clip_id: str, *, made: Sequence[str]) -> View:
        """After a click in the gallery: the clip on the stage, and its settings in the controls."""
        kept = self.shelf.get(clip_id) if clip_id in made else None
        if kept is None:
            return {
                "status": html.said("That clip is no longer here.", kind="error"),
                "gallery": html.gallery(self._still_here(made)),
            }
        view = self._with_settings(kept.clip.settings, kept.clip.checkpoint)
        return view | {"stage": html.stage([kept])}

    def read_file(self, path: Path) -> View:
        """After a file was dropped on the page: its settings in the controls."""
        try:
            content = read_made_by(path)
            settings = settings_in(content, source=path.name)
        except T2VError as error:
            # Where the file lies on this machine is nobody's business.
            return {"status": html.said(str(error).replace(str(path), path.name), kind="error")}
        return self._with_settings(settings, str(content.get("checkpoint")))

    def roll(self) -> View:
        """A fresh seed that stays."""
        return {"seed": secrets.randbelow(MAX_DRAWN_SEED), "random_seed": False}

    def _drawn(self, moment: Moment, used: GenerationSettings, hints: Sequence[str]) -> View:
        if moment.is_stopped:
            return {"status": html.said("Stopped.")}
        if moment.done == moment.total:
            return {"stage": html.stage(moment.finished), "status": _notes(hints)}
        view: View = {"status": html.progress(moment) + _notes(hints)}
        if moment.preview is not None:
            view["stage"] = html.preview(moment, used.prompt)
        return view

    def _with_settings(self, settings: GenerationSettings, checkpoint: str) -> View:
        name = self.models.made(checkpoint)
        view = self.choose(name) | {"model": name} if name else {}
        view |= shown(settings) | {"preset": gr.update(value=preset_of(settings.model_dump()))}
        view |= {"random_seed": False}
        told = "The settings of that clip are back."
        if name is None:
            told += f" It was made by {checkpoint}, which is not here: another model draws something else."
        return view | {"status": html.said(told)}

    def _still_here(self, made: Sequence[str]) -> list[KeptClip]:
        return [kept for name in made if (kept := self.shelf.get(name)) is not None]


@contextmanager
def in_words() -> Iterator[None]:
    """A mistake that a person can mend reaches the browser as a sentence, and the page lives on."""
    try:
        yield
    except T2VError as error:
        text = str(error).removeprefix("settings: ")
        raise gr.Error(f"{text[:1].upper()}{text[1:]}.", title="That did not work", print_exception=False) from None


def _notes(hints: Sequence[str]) -> str:
    return "".join(html.said(f"Note: {hint}.") for hint in hints)
