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
    """Print what a checkpoint or a generated file says of itself, as JSON."""
    if not file.exists():
        raise ClipError(f"there is no file {file}")
    content = _clip(file) if file.suffix.lower() in {".gif", ".mp4", ".webm", ".webp", ".png"} else _checkpoint(file)
    answer(json.dumps(content, indent=1, ensure_ascii=False))


def _clip(file: Path) -> object:
    from t2v.data.video_files import read_metadata

    text = read_metadata(file)
    try:
        content = json.loads(text) if text else None
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict) or not str(content.get("made_by", "")).startswith("t2v "):
        raise ClipError(f"{file} does not say how it was made: not by t2v, or written with --no-metadata")
    return content


def _checkpoint(file: Path) -> object:
    from t2v.checkpoint import read_header, resolve
    from t2v.checkpoint.atomic import file_sha256

    weights = resolve(file)
    header = read_header(weights)
    return {"file": str(weights), "sha256": file_sha256(weights), **header.model_dump(mode="json")}
