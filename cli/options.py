"""Command line options made from the one description of each setting in t2v.config."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer
from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from t2v.config import PresetName, Settings
from t2v.errors import SettingsError
from t2v.reading import validate

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def settings_options(
    kind: type[Settings],
    *,
    names: Mapping[str, tuple[str, ...]],
    leave_out: tuple[str, ...] = (),
    presets: Mapping[PresetName, Mapping[str, Any]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for each field of `kind`, and --preset, and hand it the validated `settings`.

    What is typed counts more than what the preset says. A value out of range is wrong usage: exit status 2.

    names: option names that differ from the field's own, such as {"num_frames": ("--frames", "--num-frames")}.
    leave_out: fields without an option. Where the command has an argument of the same name, that is the value.
    presets: fields that each preset sets, with their values.
    """
    fields = {name: field for name, field in kind.model_fields.items() if name not in leave_out}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapped(context: typer.Context, preset: PresetName, **values: Any) -> Any:
            options = {name: values.pop(name) for name in fields}
            typed = {name: value for name, value in options.items() if _is_typed(context, name)}
            chosen = dict(presets[preset]) | typed | {name: values[name] for name in leave_out if name in values}
            try:
                settings = validate(kind, chosen, source="options")
            except SettingsError as error:
                raise typer.BadParameter(str(error).removeprefix("options: ")) from None
            return command(**values, settings=settings)

        own = [p for name, p in inspect.signature(command).parameters.items() if name != "settings"]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        made = [_parameter(name, field, names.get(name)) for name, field in fields.items()]
        parameters = [_CONTEXT, *own, _preset_option(presets), *made]
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def _preset_option(presets: Mapping[PresetName, Mapping[str, Any]]) -> inspect.Parameter:
    told = "; ".join(f"{name}: {_in_words(preset)}" for name, preset in presets.items())
    option = typer.Option(help=f"How much work a clip is worth. {told}. What is typed counts more.")
    return inspect.Parameter(
        "preset", inspect.Parameter.KEYWORD_ONLY, default="normal", annotation=Annotated[PresetName, option]
    )


def _in_words(preset: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in preset.items())


def _parameter(name: str, field: FieldInfo, names: tuple[str, ...] | None) -> inspect.Parameter:
    # What annotated types may bound is more than numbers; our fields bound numbers only.
    low: Any = next((m.ge if isinstance(m, Ge) else m.gt for m in field.metadata if isinstance(m, (Ge, Gt))), None)
    high: Any = next((m.le for m in field.metadata if isinstance(m, Le)), None)
    option = typer.Option(
        *(names or ("--" + name.replace("_", "-"),)),
        help=field.description,
        min=low,
        max=high,
        show_default=field.default is not None and field.default != "",
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=Annotated[field.annotation, option]
    )


def parse_duration(text: str) -> float:
    """Seconds of a time such as 2h, 90m, 1h30m or 45s. Raises SettingsError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhd])", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower().replace(" ", ""):
        raise SettingsError(f"{text!r} is not a time; write it as 2h, 90m, 1h30m or 45s")
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise SettingsError(f"a time must be longer than {text!r}")
    return seconds


def parse_assignments(texts: list[str]) -> dict[str, str]:
    """`key=value` texts as a mapping. Raises SettingsError for a text without a key or an equals sign."""
    pairs = [text.partition("=") for text in texts]
    for text, (key, equals, _) in zip(texts, pairs, strict=True):
        if not equals or not key:
            raise SettingsError(f"--set takes key=value such as train.batch_size=8, not {text!r}")
    return {key.strip(): value.strip() for key, _, value in pairs}
