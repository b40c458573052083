"""`t2v generate`: a prompt becomes a file."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer, progress_bar, say
from t2v.cli.options import settings_options
from t2v.config import DeviceName, GenerationSettings, PrecisionName
from t2v.presets import PRESETS

OUTPUTS = Path("outputs")
NAMES = {
    "num_frames": ("--frames", "--num-frames"),
    "num_steps": ("--num-steps", "--steps"),
    "num_clips": ("--num-clips", "-n"),
    "guidance_scale": ("--guidance-scale", "--guidance"),
}


@settings_options(GenerationSettings, names=NAMES, leave_out=("prompt",), presets=PRESETS)
def generate(
    settings: GenerationSettings,
    prompt: Annotated[str, typer.Argument(help="What to draw, such as 'fireworks at night'.", show_default=False)] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write: .gif .mp4 .webm .webp .png (default: outputs/<words>-<seed>.gif)."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A checkpoint file, a run folder or a step of it (default: the model in the box)."),
    ] = None,
    guide: Annotated[
        Path | None,
        typer.Option(
            help="A weaker checkpoint of the same kind to guide away from, such as an earlier step of the run, in "
            "place of the null text (autoguidance)."
        ),
    ] = None,
    scale: Annotated[
        int, typer.Option(min=1, max=32, help="Enlarge each pixel of the file to a square this wide.")
    ] = 1,
    metadata: Annotated[bool, typer.Option(help="Write prompt, seed and settings into the file.")] = True,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="Arithmetic of the network; auto measures it.")] = "fp32",
) -> None:
    """Make clips from a prompt and print their paths and seeds.

    A file named by --out is replaced; without it no file is. Only a model trained without captions needs no prompt. The
    prompt is used as it is typed, also where training put its captions into a template (t2v train --caption).
    """
    from t2v.service import GenerationService, check_scale, check_target, free_path, save_clip

    check_target(out or OUTPUTS / "clip.gif", fps=settings.fps)
    service = GenerationService.load(checkpoint, guide=guide, device=device, precision=precision)
    used = service.resolve(settings)
    check_scale(scale, used)
    for hint in service.hints(used):
        say(f"note: {hint}")
    with progress_bar(unit="steps") as bar:
        task = bar.add_task("drawing", total=used.num_steps * used.num_clips, note="")
        for step in service.generate(used):
            bar.update(task, advance=len(step.clips), total=step.num_steps * used.num_clips)
            for clip in step.finished:
                path = free_path(OUTPUTS, clip) if out is None else numbered(out, clip.index, used.num_clips)
                save_clip(clip, path, scale=scale, with_metadata=metadata)
                answer(f"{path}  seed {clip.seed}  {clip.seconds:.1f} s")


def numbered(path: Path, index: int, num_clips: int) -> Path:
    """The path of one of several clips: clip.gif becomes clip-1.gif, clip-2.gif and so on."""
    return path if num_clips == 1 else path.with_stem(f"{path.stem}-{index + 1}")
