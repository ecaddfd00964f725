"""What every field kind has in common."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SinglePhotoField(BaseModel):
    """A column whose whole value refers to one photo.

    Roles: `primary` is the photo itself; `variant` is a smaller copy that the application made of the row's
    primary (it receives the URL of one of the primary's variants); `duplicate` is the same photo spelled
    again elsewhere, and is migrated like a primary (equal content shares one set of objects).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    root: str = Field(description="The root that the value points into.")
    role: Literal["primary", "variant", "duplicate"] = "primary"
    variant: str = Field(default="full", description="Which variant the rewritten value names.")
