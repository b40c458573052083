"""What stands where on the page, and which of the studio's answers goes where."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from t2v.page import html
from t2v.page.addresses import refuse_addresses
from t2v.page.api import add_endpoints
from t2v.page.controls import NAMES, control, label
from t2v.page.studio import Studio, View
from t2v.page.training_view import build_training_view
from t2v.presets import PRESET_NAMES, PRESET_SETTINGS, preset_of

ADVANCED = ("negative", "sampler", "size", "fps")
EXPERT = {
    "Guidance": ("guidance_curve", "guidance_low", "guidance_high", "guidance_rescale", "threshold", "percentile"),
    "Sampler": ("spacing", "eta", "temperature", "noise_dropout", "own_noise"),
}
DEVICE = "device"  # all that draws waits in one line
CLIP_ENDINGS = [".gif", ".mp4", ".webm", ".webp", ".png"]

PICK_FROM_GALLERY = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-clip]');
  if (button) trigger('select', {clip: button.dataset.clip});
});
"""
# A clip may be dropped anywhere, not only where its box is.
DROP_ANYWHERE = """
() => {
  document.addEventListener('dragover', (event) => event.preventDefault());
  document.addEventListener('drop', (event) => {
    const input = document.querySelector('#bring-back input[type=file]');
    const file = event.dataTransfer && event.dataTransfer.files[0];
    if (!input || !file || event.target.closest('#bring-back')) return;
    event.preventDefault();
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
  });
}
"""


def build_page(studio: Studio, *, runs: Path, keep_s: float) -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(title="t2v", analytics_enabled=False, delete_cache=(60, int(keep_s))) as page:
        gr.Markdown("# t2v\nText to video, by a model that you can train on your own clips.", elem_id="t2v-title")
        with gr.Tabs():
            with gr.Tab("Make clips", id="make"):
                _wire(studio, page, _place(studio))
            with gr.Tab("Training", id="training") as training:
                build_training_view(runs, training)
        add_endpoints(studio, concurrency_id=DEVICE)
    refuse_addresses(page)
    return page


@dataclass(frozen=True)
class _Parts:
    """The components of the tab in which clips are made.

    controls: by the name of the setting. named: those that a view of the studio may change, by its names, the
    controls among them.
    """

    controls: dict[str, Any]
    named: dict[str, Any]
    start: gr.Button
    stop: gr.Button
    roll: gr.Button
    hints: gr.HTML
    brought: gr.File


def _place(studio: Studio) -> _Parts:
    """Placed by style.css: on a phone the clip stands between the prompt and the settings."""
    controls: dict[str, Any] = {}
    named: dict[str, Any] = {"visit": gr.State([])}
    with gr.Row(elem_id="making"):
        with gr.Column(elem_id="ask"):
            placeholder = "fireworks at night"
            controls["prompt"] = control("prompt", lines=1, max_lines=4, placeholder=placeholder, autofocus=True)
            with gr.Row():
                start = gr.Button("Generate", variant="primary", elem_id="generate")
                stop = gr.Button("Stop", elem_id="stop")
            named["examples"] = gr.Dataset(
                components=[gr.Textbox(visible=False)], samples=[], label="This model can do", elem_id="examples"
            )
        with gr.Column(elem_id="result"):
            named["stage"] = gr.HTML(html.empty_stage("Your clip will be here."), elem_id="stage")
            named["status"] = gr.HTML(elem_id="status", min_height=48)
            hints = gr.HTML(elem_id="hints")
            named["gallery"] = gr.HTML(html.gallery([]), js_on_load=PICK_FROM_GALLERY, elem_id="gallery")
            brought = gr.File(
                label="Drop a t2v clip: its settings come back",
                file_types=CLIP_ENDINGS,
                height=120,
                elem_id="bring-back",
            )
        with gr.Column(elem_id="settings"):
            named["preset"] = gr.Radio(
                list(PRESET_NAMES),
                value="normal",
                label="Preset",
                info="How much work a clip is worth: it sets " + " and ".join(map(label, PRESET_SETTINGS)).lower(),
                elem_id="preset",
            )
            for pair in (("num_frames", "num_steps"), ("guidance_scale", "num_clips")):
                with gr.Row():
                    for name in pair:
                        controls[name] = control(name, min_width=220)
            with gr.Row():
                controls["seed"] = control("seed", min_width=150)
                with gr.Column(min_width=150):
                    named["random_seed"] = gr.Checkbox(True, label="Another seed for every clip", elem_id="random-seed")
                    roll = gr.Button("Roll a seed", size="sm", elem_id="roll")
            # Filled on arrival; the choices of now are for a tab that stayed open while the server was started again.
            named["model"] = gr.Dropdown(choices=studio.models.names(), label="Checkpoint", elem_id="model")
            named["about"] = gr.HTML(elem_id="about")
            with gr.Accordion("More settings", open=False, elem_id="advanced"):
                for name in ADVANCED:
                    controls[name] = control(name)
                for title, names in EXPERT.items():
                    with gr.Accordion(title, open=False, elem_id=f"expert-{title.lower()}"):
                        for name in names:
                            controls[name] = control(name)
    return _Parts(controls, controls | named, start, stop, roll, hints, brought)


def _wire(studio: Studio, page: gr.Blocks, parts: _Parts) -> None:
    named, hints, prompt = parts.named, parts.hints, parts.controls["prompt"]
    status, model, visit = named["status"], named["model"], named["visit"]
    every = list(named.values())
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def updates(view: View) -> dict[Any, Any]:
        return {named[name]: value for name, value in view.items()}

    def draw(request: gr.Request, name: str, keep: bool, made: list[str], *values: Any) -> Iterator[dict[Any, Any]]:
        asked = dict(zip(NAMES, values, strict=True))
        for view in studio.generate(str(request.session_hash), name, asked, random_seed=keep, made=made):
            yield updates(view) | {hints: ""}  # they are in the status now

    def halt(request: gr.Request) -> dict[Any, Any]:
        return updates(studio.stop(str(request.session_hash)))

    def look(name: str, text: str, said: str | None) -> str:
        words = str(studio.look_at(name, text).get("status", ""))
        return "" if words in (said or "") else words

    def pick(event: gr.EventData, made: list[str]) -> dict[Any, Any]:
        return updates(studio.bring_back(str(event.clip), made=made)) | {hints: ""}

    def read(path: str) -> dict[Any, Any]:
        return updates(studio.read_file(Path(path))) | {hints: "", parts.brought: None}

    run = gr.on(
        [parts.start.click, prompt.submit],
        draw,
        inputs=[model, named["random_seed"], visit, *(parts.controls[name] for name in NAMES)],
        # Not every one: gradio makes each output anew for each moment told, which took 7% of a core.
        outputs=[named["stage"], status, hints, named["gallery"], visit, parts.controls["seed"]],
        concurrency_id=DEVICE,
        concurrency_limit=1,
        trigger_mode="once",
        show_progress="minimal",
        show_progress_on=[status],
        api_visibility="private",
    )

    def halted(request: gr.Request, shown: str | None) -> Any:
        return updates(studio.settle_stopped(str(request.session_hash), shown or "")) or gr.skip()

    stopping = parts.stop.click(halt, outputs=status, cancels=[run], **quick)
    # The request may have ended before the answer to Stop reached the page; then nothing else takes that back.
    stopping.then(halted, status, status, **quick)
    # Before this the browser ignores Generate, so that nothing may say earlier that all has stopped.
    run.then(lambda shown: updates(studio.settle(shown or "")) or gr.skip(), status, status, **quick)
    named["gallery"].select(pick, visit, [*every, hints], **quick)
    parts.brought.upload(read, parts.brought, [*every, hints, parts.brought], **quick)
    named["examples"].click(lambda sample: (sample[0], ""), named["examples"], [prompt, hints], **quick)
    # Not in the status: the prompt loses the focus to a button, whose own answer this one would replace.
    prompt.blur(look, [model, prompt, status], hints, **quick)
    named["preset"].input(lambda name: updates(studio.choose_preset(name)), named["preset"], every, **quick)
    set_by_it = [parts.controls[name] for name in PRESET_SETTINGS]
    gr.on(
        [part.input for part in set_by_it],
        lambda *values: preset_of(dict(zip(PRESET_SETTINGS, values, strict=True))),
        set_by_it,
        named["preset"],
        **quick,
    )
    parts.controls["seed"].input(lambda: False, outputs=named["random_seed"], **quick)
    parts.roll.click(lambda: updates(studio.roll()), outputs=every, **quick)
    model.input(lambda name: updates(studio.choose(name)), model, every, **quick)
    page.load(lambda: updates(studio.arrive()), outputs=every, **quick)
