"""`t2v worlds`: writes the procedural captioned clips."""

import os
from pathlib import Path
from typing import Annotated, get_args

import typer

from t2v.cli.console import answer, progress_bar
from t2v.config import MAX_SEED, FamilyName, SplitName


def worlds(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the clips and their captions.")],
    num_clips: Annotated[int, typer.Option("--num-clips", "-n", min=1, help="How many clips to draw.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Clip k is a function of the seed and k.")] = 0,
    size: Annotated[int, typer.Option(min=16, max=512, help="Width and height in pixels.")] = 64,
    frames: Annotated[int, typer.Option("--frames", "--num-frames", min=4, max=128, help="Frames of a clip.")] = 10,
    fps: Annotated[float, typer.Option(min=1, max=50, help="Frames a second.")] = 8.0,
    families: Annotated[
        str | None,
        typer.Option(help=f"Some of {', '.join(get_args(FamilyName))}, with commas between; all by default."),
    ] = None,
    split: Annotated[
        SplitName,
        typer.Option(help="Clips to train on (seen), or of what those leave out for ever; all: of any combination."),
    ] = "seen",
) -> None:
    """Draw captioned clips to train on: shapes, fireworks, weather and more, without what evaluation holds out."""
    from t2v.data.worlds import write_worlds

    # Starting a process takes as long as drawing some fifty clips.
    workers = min(os.cpu_count() or 1, num_clips // 50 + 1)
    drawn = write_worlds(
        folder,
        num_clips=num_clips,
        seed=seed,
        size=size,
        num_frames=frames,
        fps=fps,
        families=None if families is None else [name.strip() for name in families.split(",")],
        split=split,
        num_workers=workers,
    )
    with progress_bar(unit="clips") as bar:
        task = bar.add_task("drawing", total=num_clips, note="")
        for done in drawn:
            bar.update(task, completed=done)
    answer(f"{num_clips} clips in {folder}")
