"""The size model's file, as text. What it says is read by `size_model`, with numpy; naming it needs none."""

import hashlib
from functools import cache
from importlib.resources import files

MODEL_FILE = "size_model.json"


def model_digest() -> str:
    """Returns what identifies the shipped model: another one may choose other qualities."""
    return hashlib.sha256(model_text().encode()).hexdigest()[:12]


@cache
def model_text() -> str:
    """Returns the file's content."""
    return files("photo_pipeline.core.imaging").joinpath(MODEL_FILE).read_text(encoding="utf-8")
