"""An empty database with the state tables, on SQLite or PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema

OpenDatabase = Callable[..., Database]


@pytest.fixture
def new_url(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Return the URL of a new database of that kind, with the state tables."""

    def make(kind: str) -> str:
        if kind == "postgres":
            url = str(request.getfixturevalue("postgres").new_database())
        else:
            (tmp_path / "app.db").touch()
            url = f"sqlite:///{tmp_path / 'app.db'}"
        with closing(Database.open(url)) as database:
            ensure_schema(database)
        return url

    return make


@pytest.fixture
def new_database(new_url: Callable[[str], str]) -> Iterator[OpenDatabase]:
    """Open a new database of that kind."""
    with ExitStack() as stack:
        yield lambda kind="sqlite": stack.enter_context(closing(Database.open(new_url(kind))))
