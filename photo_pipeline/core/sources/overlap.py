"""Whether two sources write the same column of the same row, which neither could take back alone.

The ledger goes by source and row: what one source wrote on top of the other's value looks, to the other's
rollback, like an edit of the application.
"""

from collections.abc import Sequence
from itertools import combinations

from photo_pipeline.core.sources.mapping import Source, Where


def shared_column(sources: Sequence[Source]) -> tuple[Source, Source, str] | None:
    """Return two sources and a column that both may write in one row of their table, or None."""
    for one, other in combinations(sources, 2):
        if (one.schema_name, one.table) != (other.schema_name, other.table):
            continue
        shared = [column for column in one.written_columns if column in other.written_columns]
        if shared and not are_apart(one.where, other.where):
            return one, other, shared[0]
    return None


def are_apart(one: Sequence[Where], other: Sequence[Where]) -> bool:
    """Return whether the conditions say that no row meets both; False where they may or may not."""
    pairs = [(a, b) for a in one for b in other if a.column == b.column]
    return any(_exclude(a, b) or _exclude(b, a) for a, b in pairs)


def _exclude(one: Where, other: Where) -> bool:
    # No comparison is true of a NULL.
    if other.op == "is_null":
        return one.op != "is_null"
    if other.op in ("ne", "not_in"):
        refused = [(type(value), value) for value in _values(other)]
        return one.op in ("eq", "in") and all((type(v), v) in refused for v in _values(one))
    known = ("eq", "in", "like")
    if one.op not in known or other.op not in known:
        return False
    return not any(_may_equal(a, b) for a in _starts(one) for b in _starts(other))


def _values(where: Where) -> Sequence[object]:
    return where.value if isinstance(where.value, list) else [where.value]


def _starts(where: Where) -> list[tuple[str, bool]]:
    """Return what the column's text begins with, and whether that is the whole of it."""
    if where.op == "like":
        text = str(where.value)
        end = min((text.index(sign) for sign in "%_\\" if sign in text), default=len(text))
        return [(text[:end].casefold(), False)]
    return [(text, True) for value in _values(where) for text in (_plain(value), str(value).casefold())]


def _plain(value: object) -> str:
    """Return one spelling for whatever a database may take for equal: case, padding, 1 and 1.0 and '1'."""
    text = str(value).casefold().rstrip()
    try:
        return repr(float(value if isinstance(value, bool) else text))
    except ValueError:
        return text


def _may_equal(one: tuple[str, bool], other: tuple[str, bool]) -> bool:
    (a, a_is_whole), (b, b_is_whole) = one, other
    if a_is_whole and b_is_whole:
        return a == b
    return (a.startswith(b) and not b_is_whole) or (b.startswith(a) and not a_is_whole)
