"""Runs the dashboard over HTTP: the socket, uvicorn, and an end that does not wait for open streams."""

import socket
from typing import Final

import uvicorn

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.web.access import Access
from photo_pipeline.web.app import create_app

DEFAULT_HOST: Final = "127.0.0.1"

# Streams look every second whether they should end.
_PATIENCE_S: Final = 3
_ANY: Final = ("0.0.0.0", "::", "")


class DashboardServer:
    """The dashboard, bound to its address; `run` serves until `stop`, Ctrl-C or SIGTERM."""

    def __init__(
        self, database: Database, config: PipelineConfig, access: Access, *, host: str, port: int
    ) -> None:
        """Bind the address; with port 0 the system chooses one.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        shown = "127.0.0.1" if host in _ANY else host
        self.url = f"http://[{shown}]:{self.port}/" if ":" in shown else f"http://{shown}:{self.port}/"
        app = create_app(database, config, access, is_ending=lambda: self._server.should_exit)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                # Its lines would hold the token.
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=_PATIENCE_S,
            )
        )

    def run(self) -> None:
        """Serve until told to stop."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let `run` return soon."""
        self._server.should_exit = True


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # Now, so that whoever reads the printed address at once is queued and not refused.
        bound.listen()
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port}",
            cause=f"it cannot be listened on ({error.strerror or error})",
            fix="choose another --port, or an address of this machine for --host",
        ) from error
    return bound
