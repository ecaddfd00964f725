"""Sites whose store is never asked, and files that cost next to nothing, for tests of the catalog."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.sites import Site, build_site

# The signature decides what a file is; nothing in the catalog decodes more.
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(40)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


class Nowhere:
    """Stands where the servers' addresses are asked for; nothing answers there."""

    bucket = "nobody"
    s3_url = "http://127.0.0.1:9"
    cdn_url = "https://cdn.example"


def small_site(home: Path, *, url: str | None = None, photos: int = 0, **settings: Any) -> Site:
    """Build a site without servers; its database is SQLite unless a URL is given."""
    home.mkdir(parents=True, exist_ok=True)
    return build_site(
        home,
        url=url or f"sqlite:///{home / 'app.db'}",
        servers=cast(RunningServers, Nowhere()),
        name="small",
        photos=photos,
        **settings,
    )


@contextmanager
def throwaway_folder() -> Iterator[Path]:
    """A folder for one Hypothesis example."""
    with tempfile.TemporaryDirectory(prefix="pp-") as name:
        yield Path(name)


def put(site: Site, path: str | bytes, content: bytes = JPEG) -> Path:
    """Write a file below the site's uploads; a bytes path may hold any bytes."""
    text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
    target = site.uploads / text
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target
