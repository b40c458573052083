"""Settings from what people write: recipes by name or file, overrides, mappings. What is wrong is named in a line."""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from t2v.config import Recipe, RecipeName, Settings
from t2v.errors import SettingsError

AnySettings = TypeVar("AnySettings", bound=Settings)


def load_recipe(name_or_path: str, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe by its name or its .toml file and apply `section.key=value` overrides.

    Raises SettingsError for an unknown recipe, a misspelled key or a value out of range.
    """
    return recipe_from_mapping(_recipe_mapping(name_or_path), overrides, source=name_or_path)


def recipe_from_mapping(
    mapping: Mapping[str, Any], overrides: Mapping[str, str] | None = None, *, source: str = "recipe"
) -> Recipe:
    """Validate a mapping as a recipe after applying overrides, whose values are TOML or bare words."""
    merged: dict[str, Any] = {key: dict(v) if isinstance(v, Mapping) else v for key, v in mapping.items()}
    for dotted, text in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        check_key(dotted)
        if not key:
            merged[section] = _parse_value(text)
        elif isinstance(merged.setdefault(section, {}), dict):
            merged[section][key] = _parse_value(text)
    return validate(Recipe, merged, source=source)


def check_key(dotted: str) -> None:
    """Raise SettingsError, naming the nearest known key, unless `dotted` names a setting of a recipe."""
    known = recipe_keys()
    if dotted not in known:
        raise SettingsError(f"unknown setting {dotted!r}{_did_you_mean(dotted, known)}")


def recipe_keys() -> list[str]:
    """Names of all recipe settings, such as `train.batch_size`."""
    keys = []
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Settings):
            keys += [f"{name}.{key}" for key in section.model_fields]
        else:
            keys.append(name)
    return keys


def validate(kind: type[AnySettings], mapping: Mapping[str, Any], *, source: str) -> AnySettings:
    """Build settings of `kind`; a wrong key or value becomes one readable SettingsError."""
    try:
        return kind.model_validate(mapping)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = recipe_keys() if kind is Recipe else list(kind.model_fields)
            raise SettingsError(f"{source}: unknown setting {where!r}{_did_you_mean(where, known)}") from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "tuple_type":
            message = "must be a list such as [1, 2, 4]"
        given = "" if first["type"] == "value_error" else f", not {_shortened(first['input'])}"
        raise SettingsError(f"{source}: {where + ': ' if where else ''}{message}{given}") from None


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with t2v."""
    return get_args(RecipeName)


def _recipe_mapping(name_or_path: str) -> dict[str, Any]:
    if name_or_path in recipe_names():
        text = (resources.files("t2v") / "recipes" / f"{name_or_path}.toml").read_text(encoding="utf-8")
    else:
        path = Path(name_or_path)
        if not path.is_file():
            names = ", ".join(recipe_names())
            raise SettingsError(f"no recipe {name_or_path!r}: name one of {names}, or a .toml file")
        text = path.read_bytes().decode(errors="replace")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name_or_path} is not readable TOML: {error}") from None


def _parse_value(text: str) -> Any:
    """A value typed after `--set key=`: TOML where it parses, else the bare word itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _did_you_mean(name: str, known: list[str]) -> str:
    """The known key that is nearest as a whole or, its section left out, by its last part."""
    by_last_part = {key.rpartition(".")[2]: key for key in reversed(known)}
    whole = get_close_matches(name, known, n=1, cutoff=0.6)
    last = get_close_matches(name.rpartition(".")[2], by_last_part, n=1, cutoff=0.6)
    near = whole[0] if whole else by_last_part[last[0]] if last else None
    return f"; did you mean {near!r}?" if near else f"; known are {', '.join(known)}"
