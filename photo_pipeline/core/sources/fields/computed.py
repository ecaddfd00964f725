"""Field kind `computed`: no column names the file; a template makes its path out of several columns.

As Rails Active Storage does: `{{ key[0:2] }}/{{ key[2:4] }}/{{ key }}`. There is nothing to rewrite in the
field itself, so its row changes only where the mapping writes other columns.
"""

from functools import cached_property
from typing import ClassVar, Literal

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, field_validator

from photo_pipeline.core.sources.fields.base import Accepts, FieldBase, Found, RowValues
from photo_pipeline.core.sources.spelling import Refused, RootSpelling, Spelled
from photo_pipeline.core.sources.text.views import View

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
# Reading, cutting and joining columns. No loops, calls, attributes or arithmetic: nothing that could cost.
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getitem, nodes.Slice),
    *(nodes.Neg, nodes.Concat, nodes.Filter, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand),
    *(nodes.And, nodes.Or, nodes.Not),
)
_FILTERS = ("lower", "upper", "trim", "replace", "string", "int")


class ComputedField(FieldBase):
    """A photo whose path is made of the row's columns; the field has no column of its own."""

    embedded: ClassVar[bool] = False
    written: ClassVar[bool] = False
    column: ClassVar[None] = None

    kind: Literal["computed"]
    template: str = Field(description='The path, such as "{{ key[0:2] }}/{{ key }}"; its names are columns.')

    @field_validator("template")
    @classmethod
    def _is_harmless(cls, template: str) -> str:
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
        return template

    @property
    def label(self) -> str:
        """How the field is called in the state tables."""
        return self.name or "computed"

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the template names."""
        return tuple(sorted(meta.find_undeclared_variables(_ENVIRONMENT.parse(self.template))))

    @cached_property
    def _compiled(self) -> Template:
        return _ENVIRONMENT.from_string(self.template)

    def find(self, values: RowValues, accepts: Accepts) -> Found:
        """Return the path; a row with a NULL among the template's columns has none."""
        read = {name: values[name] for name in self.reads}
        if any(value is None for value in read.values()):
            return Found()
        try:
            path = self._compiled.render(read)
        except (TemplateError, TypeError, ValueError) as error:
            return Found(problem=f"its path cannot be computed ({error})")
        return Found((View.of(path).span(),)) if path.strip() else Found()

    def interpret(self, url: str, root: RootSpelling) -> Spelled | Refused:
        """Return the relative paths that the computed path may mean; % and ? are taken literally first."""
        return root.interpret(url, percent_encoded=False)
