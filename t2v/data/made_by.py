"""What a file that t2v wrote says of how it was made, and the settings in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2v.config import GenerationSettings
from t2v.data.video_files import read_metadata
from t2v.errors import ClipError
from t2v.reading import validate


def read_made_by(path: Path) -> dict[str, Any]:
    """What a file that t2v wrote says of itself. Raises ClipError for any other file."""
    text = read_metadata(path)
    try:
        content = json.loads(text) if text else None
    except (json.JSONDecodeError, RecursionError):
        content = None
    if not isinstance(content, dict) or not str(content.get("made_by", "")).startswith("t2v "):
        raise ClipError(f"{path} does not say how it was made: not by t2v, or written with --no-metadata")
    return content


def settings_in(content: Mapping[str, Any], *, source: str) -> GenerationSettings:
    """The settings among what a file says of itself. Raises SettingsError where this t2v does not know them."""
    known = {name: content[name] for name in GenerationSettings.model_fields if name in content}
    return validate(GenerationSettings, known, source=source)
