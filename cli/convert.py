"""`t2v import`: a checkpoint of video-diffusion-pytorch becomes one of ours."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer


def import_model(
    source: Annotated[
        Path, typer.Argument(help="A .pt file of video-diffusion-pytorch, or its weights as .safetensors.")
    ],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    ema: Annotated[bool, typer.Option(help="Take a trainer's averaged weights rather than the raw ones.")] = True,
    frames: Annotated[int, typer.Option("--frames", "--num-frames", min=1, help="Frames it was trained on.")] = 10,
    size: Annotated[int, typer.Option(min=8, help="Width and height it was trained on, in pixels.")] = 64,
    encoder: Annotated[
        str, typer.Option(help="Text encoder it was trained with, a hub name or a local folder.")
    ] = "bert-base-cased",
) -> None:
    """Convert a checkpoint of video-diffusion-pytorch. Nothing in it is run."""
    from t2v.checkpoint.foreign import import_checkpoint

    header = import_checkpoint(source, target, averaged=ema, num_frames=frames, size=size, encoder=encoder)
    model = header.recipe.model
    answer(f"{target}  dim {model.dim}, mults {' '.join(map(str, model.dim_mults))}, text {header.cond_dim or 'none'}")
