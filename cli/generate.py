"""`t2v generate`: a prompt becomes a file."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer, progress_bar, say
from t2v.cli.options import settings_options
from t2v.config import DeviceName, GenerationSettings, PrecisionName
from t2v.errors import GenerationError

NAMES = {
    "num_frames": ("--frames", "--num-frames"),
    "num_steps": ("--num-steps", "--steps"),
    "num_clips": ("--num-clips", "-n"),
    "guidance_scale": ("--guidance-scale", "--guidance"),
}


@settings_options(GenerationSettings, names=NAMES, leave_out=("prompt",))
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw, such as 'fireworks at night'.")],
    settings: GenerationSettings,
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
    scale: Annotated[
        int, typer.Option(min=1, max=32, help="Enlarge each pixel of the file to a square this wide.")
    ] = 1,
    metadata: Annotated[bool, typer.Option(help="Write prompt, seed and settings into the file.")] = True,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="Arithmetic of the network; auto measures it.")] = "fp32",
) -> None:
    """Make a clip from a prompt and print its path, its seed and the time it took."""
    from t2v.data.video_files import check_ending
    from t2v.service import GenerationService, free_path, save_clip

    if out is not None:
        check_ending(out)
        if out.is_dir():
            raise GenerationError(f"{out} is a folder; name a file in it, such as {out / 'clip.gif'}")
    service = GenerationService.load(checkpoint, device=device, precision=precision)
    for hint in service.hints(settings):
        say(f"note: {hint}")
    with progress_bar(unit="steps") as bar:
        task = bar.add_task("drawing", total=settings.num_steps * settings.num_clips, note="")
        for step in service.generate(settings):
            bar.update(task, advance=len(step.clips))
            for clip in step.finished:
                path = (
                    free_path(Path("outputs"), clip) if out is None else numbered(out, clip.index, settings.num_clips)
                )
                save_clip(clip, path, scale=scale, with_metadata=metadata)
                answer(f"{path}  seed {clip.seed}  {clip.seconds:.1f} s")


def numbered(path: Path, index: int, num_clips: int) -> Path:
    """The path of one of several clips: clip.gif becomes clip-1.gif, clip-2.gif and so on."""
    return path if num_clips == 1 else path.with_stem(f"{path.stem}-{index + 1}")
