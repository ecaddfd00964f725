"""Which databases a test runs on."""

import pytest

DATABASES = pytest.mark.parametrize("database", ["sqlite", "postgres"])
MOSTLY_SQLITE = pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]
)
"""PostgreSQL by `make test-all` only, where what is tested hardly depends on the database."""
