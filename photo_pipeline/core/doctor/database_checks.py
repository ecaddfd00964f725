"""Checks of the database: it answers, is new enough, and lets us do what a migration does to its tables.

Whatever is tried is undone: in a transaction that is rolled back, or on no row at all.
"""

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog.column_types import is_text, misfit, text_limit
from photo_pipeline.core.catalog.faults import fix_for, one_line
from photo_pipeline.core.catalog.schema import schema_exists
from photo_pipeline.core.config import PipelineConfig, database_url
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.doctor.finding import Check, Finding, ok, problem, skipped
from photo_pipeline.core.doctor.patient import Patient
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.naming import value_format
from photo_pipeline.core.sources.mapping import Source

_GROUP = "database"
# SQLite: UPDATE … FROM and json_each as the bulk rewrite uses them need 3.33. PostgreSQL: what its project
# still maintains (https://www.postgresql.org/support/versioning/).
_OLDEST = {"sqlite": (3, 33), "postgresql": (13,)}
_DIGITS = "0"


def environment(patient: Patient) -> Iterator[Finding]:
    """The variable with the database's URL is set."""
    database_url(patient.config)
    yield ok(f"${patient.config.database.env} is set")


def answers(patient: Patient) -> Iterator[Finding]:
    """The database answers."""
    yield ok(f"{patient.database.engine.dialect.name} answers")


def version(patient: Patient) -> Iterator[Finding]:
    """The server is one that is supported."""
    dialect = patient.database.engine.dialect
    with patient.database.read():
        found = dialect.server_version_info or ()
    name, oldest = dialect.name, _OLDEST.get(dialect.name)
    text = ".".join(str(part) for part in found[:3])
    if oldest is None:
        yield problem(f"{name} is not supported", fix="use PostgreSQL or SQLite")
    elif found < oldest:
        wanted = ".".join(str(part) for part in oldest)
        yield problem(f"{name} {text} is too old", fix=f"upgrade it to {wanted} or newer")
    else:
        yield ok(f"{name} {text}")


def may_create(patient: Patient) -> Iterator[Finding]:
    """The login may create the state tables, which live beside the application's."""
    table = sa.Table(f"pp_doctor_{uuid.uuid4().hex[:8]}", sa.MetaData(), sa.Column("id", sa.Integer))
    refused = _refusal(patient, lambda connection: table.create(connection))
    if refused is None:
        there = "the state tables are there" if schema_exists(patient.database) else "none are there yet"
        yield ok(f"tried and undone; {there}")
    else:
        grant = "allow this account to write the file and its folder"
        if not patient.database.is_sqlite:
            grant = "grant the login CREATE on the schema that its search_path names first"
        yield problem(f"it is refused ({refused[0]})", fix=grant)


def mapped(patient: Patient) -> Iterator[Finding]:
    """Every table and column of the mapping exists."""
    for source in patient.config.sources:
        try:
            table = patient.database.table(source.table, source.schema_name)
        except ConfigurationError as error:
            yield problem(f"{error.thing}: {error.cause}", fix=error.fix, subject=source.name)
            continue
        missing = [name for name in source.columns if name not in table.columns]
        if missing:
            yield problem(
                f"table {source.table!r} has no column {', '.join(map(repr, missing))}",
                fix="correct the source's columns in the mapping (`photo-pipeline mapping suggest` helps)",
                subject=source.name,
            )
        else:
            yield ok(f"{source.table}: {len(source.columns)} columns", subject=source.name)


def may_read_and_write(patient: Patient) -> Iterator[Finding]:
    """The login may read the mapped columns, and change those that a rewrite changes."""
    for source in patient.config.sources:
        table = patient.database.table(source.table, source.schema_name)
        read = sa.select(*(table.c[name] for name in source.columns)).limit(0)
        refused = _refusal(patient, partial(_execute, statement=read))
        verb = "SELECT"
        if refused is None and source.written_columns:
            verb = "UPDATE"
            change = (
                sa.update(table).where(sa.false()).values({n: table.c[n] for n in source.written_columns})
            )
            refused = _refusal(patient, partial(_execute, statement=change))
        if refused is None:
            yield ok("SELECT and UPDATE" if source.written_columns else "SELECT", subject=source.name)
        else:
            fix = refused[1] if patient.database.is_sqlite else f"grant the login {verb} on {source.table}"
            yield problem(f"{verb} on {source.table} is refused ({refused[0]})", fix=fix, subject=source.name)


def values_fit(patient: Patient) -> Iterator[Finding]:
    """The new values fit into their columns."""
    for source in patient.config.sources:
        table = patient.database.table(source.table, source.schema_name)
        samples = _samples(patient.config, source)
        misfits = [
            reason
            for column, value in samples.items()
            if (reason := misfit(table.c[column], value, is_sqlite=patient.database.is_sqlite))
        ]
        for reason in misfits:
            cause, _, fix = reason.partition("; ")
            yield problem(cause, fix=fix, subject=source.name)
        if not samples:
            yield skipped("no column gets a value of ours whose length is known before", subject=source.name)
        elif not misfits:
            yield ok(_room(table, samples), subject=source.name)


def _room(table: sa.Table, samples: dict[str, Any]) -> str:
    """Say how much longer the values might be before the first column is too narrow."""
    room = {
        name: limit - len(value)
        for name, value in samples.items()
        if isinstance(value, str) and is_text(table.c[name]) and (limit := text_limit(table.c[name]))
    }
    if not room:
        return "no column has a limit"
    tightest = min(room, key=lambda name: room[name])
    return f"column {tightest!r} is the tightest, with {room[tightest]:,} characters to spare"


def _samples(config: PipelineConfig, source: Source) -> dict[str, Any]:
    """Return, by column, a value as long as those that a rewrite writes."""
    scheme, rewrite = UrlScheme.of(config), source.rewrite
    extension, image_format = value_format(source)

    def key(variant: str, extension: str = extension) -> str:
        return scheme.variant_key(_DIGITS * 64, _DIGITS * 12, variant, extension)

    def value(variant: str) -> str:
        return key(variant) if rewrite.mode == "key" else scheme.url(key(variant))

    samples: dict[str, Any] = {}
    primary = next((field.variant for field in source.fields if field.role == "primary"), None)
    for field in source.fields:
        if rewrite.names_photos and field.written and field.column is not None and not field.embedded:
            samples[field.column] = value(field.variant)
    facts = {
        **dict.fromkeys(("bytes", "kilobytes", "original_bytes", "saved_bytes", "width", "height"), 4000),
        "saved_percent": 50,
        "mime": "image/jpeg",
        "sha256": _DIGITS * 64,
        "bucket": config.store.bucket,
        "placeholder": "x" * 500,
        "thumbhash": "x" * 36,
        "dominant_colour": "#ffffff",
        **({"s3_key": key(primary, image_format.extension)} if primary else {}),
    }
    for column, quantity in rewrite.write_back.items():
        if quantity.startswith("url."):
            samples[column] = scheme.url(key(quantity.removeprefix("url.")))
        elif quantity in facts:
            samples[column] = facts[quantity]
    return samples


def _execute(connection: Connection, *, statement: sa.Executable) -> None:
    connection.execute(statement)


def _refusal(patient: Patient, attempt: Callable[[Connection], object]) -> tuple[str, str] | None:
    """Return why the database refuses the statement, and the fix; None if it does not. Nothing stays."""
    with patient.database.read() as connection:
        try:
            attempt(connection)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return one_line(error), fix_for(error)
    return None


CHECKS = (
    Check("database URL", _GROUP, environment, ("configuration",)),
    Check("database answers", _GROUP, answers, ("database URL",)),
    Check("database version", _GROUP, version, ("database answers",)),
    Check("may create tables", _GROUP, may_create, ("database answers",)),
    Check("mapped tables and columns", _GROUP, mapped, ("database answers",)),
    Check("may read and write rows", _GROUP, may_read_and_write, ("mapped tables and columns",)),
    Check("new values fit", _GROUP, values_fit, ("mapped tables and columns",)),
)
