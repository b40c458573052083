"""`t2v info`: what a checkpoint or a generated file says of itself."""

import json
from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer
from t2v.errors import ClipError


def info(
    file: Annotated[Path, typer.Argument(help="A checkpoint, a run folder, or a file that t2v generated.")],
) -> None:
    """Print what a checkpoint or a clip says of itself, as JSON."""
    from t2v.data.video_files import DECODERS

    if not file.exists():
        raise ClipError(f"there is no file {file}")
    is_clip = file.suffix.lower() in DECODERS and not file.is_dir()
    answer(json.dumps(_clip(file) if is_clip else _checkpoint(file), indent=1, ensure_ascii=False))


def _clip(file: Path) -> object:
    from t2v.data.made_by import read_made_by

    return read_made_by(file)


def _checkpoint(file: Path) -> object:
    from t2v.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(file)
    about = {"name": checkpoint.name, "file": str(checkpoint.path), "sha256": checkpoint.sha256}
    return about | checkpoint.header.model_dump(mode="json")
