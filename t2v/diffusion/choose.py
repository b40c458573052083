"""Look a name up in a table of parts, or say which names there are."""

from collections.abc import Mapping
from typing import TypeVar

from t2v.errors import SettingsError

Part = TypeVar("Part")


def choose(table: Mapping[str, Part], name: str, what: str) -> Part:
    """The part called `name`. Raises SettingsError, which lists the table, for any other name."""
    if name not in table:
        raise SettingsError(f"unknown {what} {name!r}; there are {', '.join(table)}")
    return table[name]
