"""`t2v export`: a run becomes one small file to keep or to give away."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A run folder, a step of it, or a checkpoint file.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="A prompt the model can do, to be named in the file; repeatable (default: those of the run).",
        ),
    ] = None,
    half: Annotated[bool, typer.Option(help="Store weights in bfloat16, at half the size.")] = True,
) -> None:
    """Write a run's averaged weights and settings as one file.

    What only training needs is left out. A file that is there is replaced.
    """
    from t2v.checkpoint import as_bfloat16, load_checkpoint, save_checkpoint

    loaded = load_checkpoint(checkpoint)
    weights = as_bfloat16(loaded.weights) if half else loaded.weights
    target.parent.mkdir(parents=True, exist_ok=True)
    header = loaded.header.model_copy(update={"example_prompts": tuple(prompts)}) if prompts else loaded.header
    save_checkpoint(target, weights, header)
    answer(f"{target}  {target.stat().st_size / 1e6:.1f} MB, {loaded.header.step} steps")
