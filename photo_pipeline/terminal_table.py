"""Tables that fit the terminal: whole words where there is room, one line per value where there is not."""

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

# " ┃ " between two columns.
_BETWEEN: Final = 3


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, width: int, total: bool = False
) -> RenderableType:
    """Return a table of at most `width` cells in which no value is cut.

    Numbers are right-aligned and grouped. Words are kept whole and the first column on one line; where that
    does not fit, each row becomes lines of `column: value`, which the terminal wraps.

    Args:
        columns: The columns' names.
        rows: One cell per column each.
        width: Of the terminal, in cells.
        total: Whether the last row is one.
    """
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    least = [_least(index, [columns, *texts]) for index in range(len(columns))]
    if sum(least) + _BETWEEN * (len(columns) - 1) > width:
        return _records(columns, texts)
    made = Table(show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        is_number = bool(rows) and isinstance(rows[0][index], int | float)
        made.add_column(Text(name), min_width=least[index], justify="right" if is_number else "left")
    for number, row in enumerate(texts):
        if total and number == len(texts) - 1:
            made.add_section()
        made.add_row(*map(Text, row))
    return made


def _least(index: int, lines: Sequence[Sequence[str]]) -> int:
    """Return how wide the column must be: the first one by its longest cell, others by their longest word."""
    cells = [line[index] for line in lines]
    parts = cells if index == 0 else [word for cell in cells for word in cell.split()]
    return max((cell_len(part) for part in parts), default=1)


def _records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    lines = []
    for number, row in enumerate(rows):
        if number:
            lines.append(Text(""))
        for name, cell in zip(columns, row, strict=True):
            if cell:
                lines.append(Text(f"{name}: {cell}"))
    return Group(*lines)
