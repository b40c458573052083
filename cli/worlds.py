"""`t2v worlds`: writes the procedural captioned clips."""

import os
from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer, progress_bar
from t2v.config import MAX_SEED


def worlds(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the clips and their captions.")],
    num_clips: Annotated[int, typer.Option("--num-clips", "-n", min=1, help="How many clips to draw.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Clip k is a function of the seed and k.")] = 0,
    size: Annotated[int, typer.Option(min=16, max=512, help="Width and height in pixels.")] = 64,
    frames: Annotated[int, typer.Option("--frames", "--num-frames", min=4, max=128, help="Frames of a clip.")] = 10,
    fps: Annotated[float, typer.Option(min=1, max=50, help="Frames a second.")] = 8.0,
) -> None:
    """Draw captioned clips of shapes and fireworks to train on."""
    from t2v.data.worlds import write_worlds

    # Starting a process takes as long as drawing some fifty clips.
    workers = min(os.cpu_count() or 1, num_clips // 50 + 1)
    drawn = write_worlds(
        folder, num_clips=num_clips, seed=seed, size=size, num_frames=frames, fps=fps, num_workers=workers
    )
    with progress_bar(unit="clips") as bar:
        task = bar.add_task("drawing", total=num_clips, note="")
        for done in drawn:
            bar.update(task, completed=done)
    answer(f"{num_clips} clips in {folder}")
