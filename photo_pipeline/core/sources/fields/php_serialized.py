"""Field kind `php_serialized`: a column of PHP's `serialize()`; its photos are read, it is not written."""

from typing import ClassVar, Literal

from photo_pipeline.core.sources.fields.base import Accepts, Found, RowValues
from photo_pipeline.core.sources.fields.pathed import PathedField
from photo_pipeline.core.sources.php_values import PhpProblemError, selected_php_strings


class PhpSerializedField(PathedField):
    """A column of serialized PHP; what the paths select is brought to the store, and the column stays."""

    written: ClassVar[bool] = False

    kind: Literal["php_serialized"]

    def find(self, values: RowValues, accepts: Accepts) -> Found:
        """Return the URLs or paths at the declared places, or the problem if it is no such format."""
        document = values[self.column]
        if document is None or not str(document).strip():
            return Found()
        try:
            strings = selected_php_strings(str(document), self._compiled)
        except PhpProblemError as error:
            return Found(problem=str(error))
        return Found(tuple(view.span() for view in strings if view.text.strip()))
