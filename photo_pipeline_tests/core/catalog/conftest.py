"""The site fixture of the catalog's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from photo_pipeline_tests.core.catalog.small_site import small_site
from photo_pipeline_tests.sites import Site

MakeSmallSite = Callable[..., Site]


@pytest.fixture
def make_small_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> MakeSmallSite:
    """Build a site without servers: `make_small_site(rows=[…], database="postgres", **configuration)`."""

    def make(*, database: str = "sqlite", **settings: object) -> Site:
        server = request.getfixturevalue("postgres") if database == "postgres" else None
        site = small_site(tmp_path, url=server.new_database() if server else None, **settings)
        monkeypatch.setenv("APP_DATABASE_URL", site.url)
        return site

    return make
