"""Loopback sockets for tests."""

import socket


def listening_socket() -> socket.socket:
    """A listening socket on a free loopback port; whoever connects waits until somebody accepts."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
