"""What all settings have in common: they are frozen, and a key that they do not know is an error."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Settings(BaseModel):
    """A part of the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_key_prefix(value: str) -> bool:
    """Return whether this is a key prefix of plain path segments, without a slash at either end."""
    return bool(re.fullmatch(r"(?!\.+(/|$))[A-Za-z0-9._-]+(/(?!\.+(/|$))[A-Za-z0-9._-]+)*", value))


def _checked(value: str) -> str:
    if not is_key_prefix(value):
        raise ValueError(f"{value!r} must be plain path segments without a slash at either end")
    return value


KeyPrefix = Annotated[str, AfterValidator(_checked)]
