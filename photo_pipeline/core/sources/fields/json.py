"""Field kind `json`: a JSON document (as text, JSON or JSONB) with photo URLs at declared paths."""

from typing import Literal

from pydantic import Field

from photo_pipeline.core.sources.fields.base import Accepts, Found, RowValues
from photo_pipeline.core.sources.fields.pathed import PathedField
from photo_pipeline.core.sources.json_offsets import JsonProblemError, selected_strings
from photo_pipeline.core.sources.text.document import FINDERS, find_urls
from photo_pipeline.core.sources.text.views import Span, View


class JsonField(PathedField):
    """A column with a JSON document; each string that a path selects is one URL, or a text with URLs."""

    kind: Literal["json"]
    content: Literal["url", "text"] = Field(
        default="url", description="url: each string is one URL; text: it is HTML, Markdown or BBCode."
    )

    def find(self, values: RowValues, accepts: Accepts) -> Found:
        """Return the URLs at the declared paths, or the problem if the column holds no JSON."""
        document = values[self.column]
        if document is None or (isinstance(document, str) and not document.strip()):
            return Found()
        if not isinstance(document, str):
            return Found(problem="it is not JSON that can be edited: it is not stored as text")
        try:
            strings = selected_strings(document, self._compiled)
        except JsonProblemError as error:
            return Found(problem=str(error))
        return Found(tuple(span for view in strings for span in self._spans(view, accepts)))

    def _spans(self, view: View, accepts: Accepts) -> list[Span]:
        if self.content == "text":
            return find_urls(view, FINDERS, accepts)
        view = view.stripped()
        return [view.span()] if view.text else []
