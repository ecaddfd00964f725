"""Tells what a database error is about: the row in hand, a lock, an unlucky transaction, or the database.

A row must never be blamed for a database that is full, read-only or gone (DESIGN rule 9), and no database
for a row. Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from enum import Enum, auto

from sqlalchemy.exc import DBAPIError, OperationalError

# 21 cardinality, 22 data, 23 constraints, 27 triggered change, 42 access rule, 44 check option, 54 limit of
# the program (an index entry too long), 0A not supported, P0 raised by a trigger.
_ABOUT_THE_ROW = ("21", "22", "23", "27", "42", "44", "54", "0A", "P0")
# A table or column that is gone, or SQL that this server does not know: no row could be changed.
_ABOUT_THE_SCHEMA = ("42P01", "42703", "42883", "42601")
_LOCKED = "55P03"
_ABORTED = "25P02"
# Serialization failure, deadlock, and a statement that took too long (most often behind a lock).
_AGAIN = ("40001", "40P01", "57014")
_FORBIDDEN = "42501"

_FIXES = {
    "25006": "write to the primary and not to a replica, or lift default_transaction_read_only",
    "53100": "make room on the server's disk, then run again: what is committed is kept",
    "SQLITE_FULL": "make room on the disk, then run again: what is committed is kept",
    "SQLITE_READONLY": "let this account write the file and its folder",
    _FORBIDDEN: "grant the role SELECT and UPDATE on the tables of the mapping",
}
_ANY_FIX = "see that it is up and has room, then run again: what is committed is kept"


class Fault(Enum):
    """What a database error is about."""

    ROW = auto()
    """This row cannot take this value; others can."""
    LOCKED = auto()
    """The application holds the row for longer than we wait."""
    AGAIN = auto()
    """The transaction met another one (deadlock, serialization); the same work may well succeed now."""
    DATABASE = auto()
    """Nothing can be written before a person has done something about the database."""


def fault_of(error: DBAPIError) -> Fault:
    """Return what the error is about; in doubt the database, which stops the work and harms nothing."""
    code = _code(error)
    if code == _LOCKED:
        return Fault.LOCKED
    if code in _AGAIN:
        return Fault.AGAIN
    forbidden = code == _FORBIDDEN and _lacks_a_grant(error)
    if error.connection_invalidated or forbidden or code in _ABOUT_THE_SCHEMA:
        return Fault.DATABASE
    if code[:2] in _ABOUT_THE_ROW:
        return Fault.ROW
    if code.startswith("SQLITE") and not isinstance(error, OperationalError):
        return Fault.DATABASE if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) else Fault.ROW
    return Fault.DATABASE


def first_error(error: DBAPIError) -> DBAPIError:
    """Return the error that ended the transaction, where this one only says that it has ended.

    A full disk makes SQLite roll the transaction back by itself, and PostgreSQL refuses every statement after
    an error that was not handled.
    """
    cause = error.__context__
    while _is_aftermath(error) and cause is not None:
        # Between two of SQLAlchemy's there may be the driver's own.
        if isinstance(cause, DBAPIError):
            error = cause
        cause = cause.__context__
    return error


def _is_aftermath(error: DBAPIError) -> bool:
    return _code(error) == _ABORTED or "no such savepoint" in str(error.orig)


def fix_for(error: DBAPIError) -> str:
    """Return what a person can do about it."""
    code = _code(error)
    return next((fix for known, fix in _FIXES.items() if code.startswith(known)), _ANY_FIX)


def refusal(error: Exception) -> str:
    """Return, in one line, why the row in hand was refused.

    Raises:
        DBAPIError: it is not about the row: the database is gone, or the transaction is to be tried again.
    """
    if not isinstance(error, DBAPIError):
        return str(error)
    if fault_of(error) in (Fault.AGAIN, Fault.DATABASE):
        raise error
    return one_line(error)


def one_line(error: DBAPIError) -> str:
    """Return the database's own message in one line."""
    return " ".join(str(error.orig).split())


def _code(error: DBAPIError) -> str:
    """Return PostgreSQL's SQLSTATE or SQLite's error name; empty if the driver gives none."""
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None)
    return code or ""


def _lacks_a_grant(error: DBAPIError) -> bool:
    # The same code also says that a policy (row-level security) forbids this one row.
    diagnostics = getattr(error.orig, "diag", None)
    return getattr(diagnostics, "source_function", None) == "aclcheck_error"
