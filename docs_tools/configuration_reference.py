"""`docs/reference/configuration.md`, written from the models that validate the file.

What a key means is said in its model, by `Field(description=…)`; what belongs together is said here only by order.
"""

import types
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.config.size import parse_size

_HEAD = """\
# Configuration file

<!-- Written by `make docs-reference` from the models that validate the file; a test compares. Do not edit. -->

One YAML file: `--config`, `$PHOTO_PIPELINE_CONFIG` or `./photo_pipeline.yaml`; `photo-pipeline init` writes one to start from.
A key that is not on this page is an error, not ignored. Sizes are bytes, or a number with KB, MB or GB (of 1,024). Relative
folders start at the file. Required keys are marked; everything else may be left out.

Secrets are never in the file. They come from the environment, or from a `.env` beside the file for what is not set:

| variable | meaning |
| --- | --- |
| the one that `database.env` names | the database's URL, such as `postgresql://user:password@host/name` or `sqlite:////absolute/path.db` |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, or `AWS_PROFILE` | who acts on AWS |
| `AWS_REGION`, `AWS_S3_BUCKET_NAME`, `AWS_CLOUDFRONT_DOMAIN` | region, bucket and CDN, where the file leaves them out |
| `CLOUDFRONT_KEY_PAIR_ID`, `CLOUDFRONT_PRIVATE_KEY_FILE` or `CLOUDFRONT_PRIVATE_KEY` | for `sign` |
"""
_PLAIN = {str: "text", int: "number", float: "number", bool: "true, false", Path: "path", date: "date"}


def configuration_reference() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, _table(_plain_fields(PipelineConfig))]
    for name, field in PipelineConfig.model_fields.items():
        parts += _sections(name, field.annotation, level=2)
    return "\n".join(parts)


def undescribed() -> list[str]:
    """Return the keys of the file that say nothing about themselves."""
    found: list[str] = []
    for name, field in PipelineConfig.model_fields.items():
        for path, model in _models(name, field.annotation):
            fields = {key: each for key, each in model.model_fields.items() if key != "kind"}
            found += [f"{path}.{key}" for key, each in fields.items() if not _meaning(each)]
    return found


def _sections(path: str, annotation: Any, level: int) -> list[str]:
    """Return a heading and a table for each model that the value may be, and those inside of it."""
    parts: list[str] = []
    for model in _direct_models(annotation):
        title = _path_of(path, annotation)
        kind = model.model_fields.get("kind")
        if kind is not None:
            title += f" of kind {get_args(kind.annotation)[0]}"
        summary = " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())
        parts.append(f"{'#' * level} {_heading(title)}\n\n{summary}\n")
        parts.append(_table({name: each for name, each in model.model_fields.items() if name != "kind"}))
        for name, field in model.model_fields.items():
            parts += _sections(f"{title}.{name}", field.annotation, min(level + 1, 4))
    return parts


def _models(path: str, annotation: Any) -> list[tuple[str, type[BaseModel]]]:
    found = []
    for model in _direct_models(annotation):
        found.append((path, model))
        for name, field in model.model_fields.items():
            found += _models(f"{path}.{name}", field.annotation)
    return found


def _direct_models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that the annotation names, through unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    return [model for each in get_args(annotation) for model in _direct_models(each)]


def _plain_fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return {name: field for name, field in model.model_fields.items() if not _direct_models(field.annotation)}


def _path_of(path: str, annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is tuple:
        return f"{path}[]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        named = "<variant>" if "<preset>" in path else "<preset>"
        return _path_of(f"{path}.{named}", get_args(annotation)[1])
    return path


def _heading(title: str) -> str:
    path, separator, kind = title.partition(" of kind ")
    return f"`{path}`{separator}" + (f"`{kind}`" if kind else "")


def _table(fields: Mapping[str, FieldInfo]) -> str:
    rows = [f"| {' | '.join(_row(name, field))} |" for name, field in fields.items()]
    return "\n".join(["| key | values | default | meaning |", "| --- | --- | --- | --- |", *rows, ""])


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    return f"`{field.alias or name}`", _values(field), _default(field), _meaning(field)


def _meaning(field: FieldInfo) -> str:
    text, models = field.description or "", _direct_models(field.annotation)
    if not text and len(models) > 1:
        text = "Each of one of the kinds below."
    elif not text and models:
        text = (models[0].__doc__ or "").strip().split("\n\n")[0]
    # A `<` outside of code would begin a tag.
    pieces = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(each if i % 2 else each.replace("<", "&lt;") for i, each in enumerate(pieces))


def _values(field: FieldInfo) -> str:
    bounds = _bounds(field.metadata)
    return (_type(field.annotation, field.metadata) + (f", {bounds}" if bounds else "")).replace("|", "\\|")


def _type(annotation: Any, metadata: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if any(getattr(each, "func", None) is parse_size for each in metadata):
        return "size"
    if origin is Annotated:
        return _type(arguments[0], list(annotation.__metadata__))
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(each, []) for each in arguments if each is not type(None)))
    if origin in (tuple, list):
        return f"list of {_type(arguments[0], [])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"name: {_type(arguments[1], [])}"
    if _direct_models(annotation):
        return "section"
    return _PLAIN.get(annotation, "any")


def _bounds(metadata: list[Any]) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [
        f"{sign} {getattr(each, name)}"
        for each in metadata
        for name, sign in signs.items()
        if getattr(each, name, None) is not None
    ]
    return ", ".join(found).replace("<", "&lt;")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel) or value in (None, (), {}, ""):
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"`{name}`" for name in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if _type(field.annotation, field.metadata) == "size" and isinstance(value, int):
        return f"{value // 1024**2:,} MB"
    if isinstance(value, int | float):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{value}`"
