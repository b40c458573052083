"""The page's controls, made from the one description of each setting in t2v.config."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from annotated_types import Ge, Le, Lt, MaxLen
from gradio.components import Component
from pydantic.fields import FieldInfo

from t2v.checkpoint import Header
from t2v.config import GenerationSettings
from t2v.reading import validate
from t2v.service import MAX_FPS

FIELDS = GenerationSettings.model_fields
NAMES = tuple(FIELDS)
LABELS = {"num_frames": "Frames", "num_steps": "Steps", "num_clips": "Clips", "guidance_scale": "Guidance"}
LABELS |= {"fps": "Frames a second", "negative": "Negative prompt", "own_noise": "Keep the network's noise"}
FLOAT_STEPS = {"guidance_scale": 0.1}
FLOAT_STEP = 0.05


def label(name: str) -> str:
    """What people see beside the control of a setting."""
    return LABELS.get(name, name.replace("_", " ").capitalize())


def control(name: str, **options: Any) -> Component:
    """The control of a setting: a choice, a text, a slider, or a number where the setting may be left open.

    options: arguments of the gradio component that the page's layout decides
    """
    field = FIELDS[name]
    given = {"label": label(name), "info": _sentence(field), "elem_id": f"setting-{name}"} | options
    kind = _kind(field)
    if get_origin(kind) is Literal:
        return gr.Dropdown(list(get_args(kind)), value=field.default, **given)
    if "choices" in _extra(field):
        return gr.Dropdown(_extra(field)["choices"], value=field.default, allow_custom_value=True, **given)
    if kind is bool:
        return gr.Checkbox(field.default, **given)
    if kind is str:
        longest = next(limit.max_length for limit in field.metadata if isinstance(limit, MaxLen))
        return gr.Textbox(value=field.default, max_length=longest, **given)
    step = 1 if kind is int else FLOAT_STEPS.get(name, FLOAT_STEP)
    low, high = _bounds(field, step)
    if name in ("seed", "fps"):  # without an answer that a slider could stand at
        return gr.Number(value=field.default, minimum=low, maximum=high, precision=0 if kind is int else None, **given)
    value = low if field.default is None else field.default
    return gr.Slider(low, _usual_max(field, high), value=value, step=step, **given)


def settings_of(values: Mapping[str, Any]) -> GenerationSettings:
    """What the controls say. Raises SettingsError with the control's label for a value out of range."""
    return validate(
        GenerationSettings, {name: _plain(name, value) for name, value in values.items()}, source="settings"
    )


def shown(settings: GenerationSettings) -> dict[str, Any]:
    """An update for every control, after which they say these settings."""
    return {name: shown_value(name, getattr(settings, name)) for name in NAMES}


def fitted(header: Header) -> dict[str, Any]:
    """Updates for the controls whose defaults are what the model was trained at."""
    data, step = header.recipe.data, header.recipe.model.size_step
    lowest = -(-8 // step) * step
    most = max(header.size, _usual_max(FIELDS["size"], 512))
    return {
        "num_frames": shown_value("num_frames", data.num_frames),
        "size": gr.update(value=header.size, minimum=lowest, maximum=most, step=step),
        # Not left open: a number field that comes into view makes 0 of nothing, which is then refused.
        "fps": gr.update(value=float(f"{min(max(1000 / header.frame_ms, FLOAT_STEP), MAX_FPS):.6g}")),
    }


def shown_value(name: str, value: Any) -> Any:
    """An update for the control of a setting, after which it says this value."""
    field = FIELDS[name]
    if value is not None and "usual_max" in _extra(field):
        # A slider that ends below the value could not show it.
        return gr.update(value=value, maximum=max(value, _extra(field)["usual_max"]))
    return gr.update(value=value)


def _plain(name: str, value: Any) -> Any:
    """A browser has no whole numbers, and an empty field for what is left open."""
    if isinstance(value, float) and value.is_integer() and _kind(FIELDS[name]) is int:
        return int(value)
    return None if value == "" and FIELDS[name].default is None else value


def _kind(field: FieldInfo) -> Any:
    """The type of a setting, whether or not it may be left open."""
    if get_origin(field.annotation) in (Union, UnionType):
        return next(kind for kind in get_args(field.annotation) if kind is not type(None))
    return field.annotation


def _bounds(field: FieldInfo, step: float) -> tuple[Any, Any]:
    """Lowest and highest value; beside an open end, one step from it."""
    bounds: dict[type, Any] = {type(limit): limit for limit in field.metadata}
    low = bounds[Ge].ge if Ge in bounds else step
    return low, bounds[Le].le if Le in bounds else bounds[Lt].lt - step


def _usual_max(field: FieldInfo, high: Any) -> Any:
    return _extra(field).get("usual_max", high)


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _sentence(field: FieldInfo) -> str:
    text = field.description or ""
    return text[:1].upper() + text[1:]
