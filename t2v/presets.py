"""Presets: sampling settings with a name, chosen by measurement (docs/samplers.md). Nothing here imports torch."""

from collections.abc import Mapping
from typing import Any, Final

from t2v.config import PresetName

# Each names the same settings. `normal` is what GenerationSettings says where nothing is asked for.
PRESETS: Final[Mapping[PresetName, Mapping[str, Any]]] = {
    "draft": {"num_steps": 8, "sampler": "unipc"},
    "normal": {"num_steps": 16, "sampler": "unipc"},
    "best": {"num_steps": 50, "sampler": "unipc"},
}
PRESET_NAMES: Final = tuple(PRESETS)
PRESET_SETTINGS: Final = tuple(PRESETS["normal"])


def preset_of(settings: Mapping[str, Any]) -> PresetName | None:
    """The preset that says what these settings say, or None where somebody chose otherwise."""
    chosen = {name: settings[name] for name in PRESET_SETTINGS}
    return next((name for name in PRESET_NAMES if PRESETS[name] == chosen), None)
