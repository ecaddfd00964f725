"""What all settings have in common: they are frozen, and a key that they do not know is an error."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A part of the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
