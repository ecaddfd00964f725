"""The templates of field kind `computed`: what they may say, which columns they name, and what they make.

Apart from the field, since Jinja takes 30 ms to load and few installations have such a field.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
# Reading, cutting and joining columns. No loops, calls, attributes or arithmetic: nothing that could cost.
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getitem, nodes.Slice),
    *(nodes.Neg, nodes.Concat, nodes.Filter, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand),
    *(nodes.And, nodes.Or, nodes.Not),
)
_FILTERS = ("lower", "upper", "trim", "replace", "string", "int")


def require_harmless(template: str) -> None:
    """Check that the template only reads, cuts and joins columns.

    Raises:
        ValueError: it does something else, cannot be read, or names no column.
    """
    try:
        tree = _ENVIRONMENT.parse(template)
    except TemplateError as error:
        raise ValueError(f"template {template!r}: {error}") from error
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"template {template!r}: {type(node).__name__} is not allowed in a path")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise ValueError(
                f"template {template!r}: filter {node.name!r} is not one of {', '.join(_FILTERS)}"
            )
    if not meta.find_undeclared_variables(tree):
        raise ValueError(f"template {template!r} names no column")


@lru_cache(maxsize=64)
def columns_of(template: str) -> tuple[str, ...]:
    """Return the columns that the template names."""
    return tuple(sorted(meta.find_undeclared_variables(_ENVIRONMENT.parse(template))))


def filled(template: str, values: Mapping[str, Any]) -> str:
    """Return the template with the columns' values in it.

    Raises:
        ValueError: it cannot be computed of these.
    """
    try:
        return _compiled(template).render(values)
    except (TemplateError, TypeError) as error:
        raise ValueError(str(error)) from error


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)
