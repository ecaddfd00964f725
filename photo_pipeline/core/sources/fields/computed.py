"""Field kind `computed`: no column names the file; a template makes its path out of several columns.

As Rails Active Storage does: `{{ key[0:2] }}/{{ key[2:4] }}/{{ key }}`. There is nothing to rewrite in the
field itself, so its row changes only where the mapping writes other columns.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from photo_pipeline.core.sources.fields.base import Accepts, FieldBase, Found, RowValues
from photo_pipeline.core.sources.spelling import Refused, RootSpelling, Spelled
from photo_pipeline.core.sources.text.views import View


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
        from photo_pipeline.core.sources.fields.computed_template import require_harmless  # Jinja: 30 ms

        require_harmless(template)
        return template

    @property
    def label(self) -> str:
        """How the field is called in the state tables."""
        return self.name or "computed"

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the template names."""
        from photo_pipeline.core.sources.fields.computed_template import columns_of

        return columns_of(self.template)

    def find(self, values: RowValues, accepts: Accepts) -> Found:
        """Return the path; a row with a NULL among the template's columns has none."""
        from photo_pipeline.core.sources.fields.computed_template import filled

        read = {name: values[name] for name in self.reads}
        if any(value is None for value in read.values()):
            return Found()
        try:
            path = filled(self.template, read)
        except ValueError as error:
            return Found(problem=f"its path cannot be computed ({error})")
        return Found((View.of(path).span(),)) if path.strip() else Found()

    def interpret(self, url: str, root: RootSpelling) -> Spelled | Refused:
        """Return the relative paths that the computed path may mean; % and ? are taken literally first."""
        return root.interpret(url, percent_encoded=False)
