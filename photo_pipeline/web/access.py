"""Who may look, and who may act: the token, sessions, and where a request must come from. Pure.

Looking needs nothing but a `Host` that a page of somebody else cannot have (DNS rebinding). Acting needs a
session, which the token opens, a secret that only our own page knows, and our own `Origin`.
"""

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from photo_pipeline.core.errors import ConfigurationError

TOKEN_VARIABLE: Final = "PHOTO_PIPELINE_SERVE_TOKEN"
SHORTEST_TOKEN: Final = 16

SESSION_S: Final = 12 * 3600
"""After so many seconds the token is needed again."""

# More than the browsers of a team; the oldest session ends when one more is opened.
_MOST_SESSIONS: Final = 32


@dataclass
class Access:
    """The token, the sessions that it has opened, and the names that the page goes by.

    Attributes:
        token: What opens a session.
        single_use: Whether it does so only once.
        hosts: Names that a request may ask for, besides localhost and bare addresses; lower case.
        clock: In seconds; never goes back.
    """

    token: str = field(repr=False)
    single_use: bool
    hosts: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.monotonic
    # Cookie: the secret of its forms, and when it ends.
    _sessions: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)

    @classmethod
    def make(cls, given: str | None, *, hosts: Iterable[str] = ()) -> "Access":
        """Return access by the given token (any number of times), or by a random one that works once.

        Raises:
            ConfigurationError: the given token is too short to be one.
        """
        names = frozenset(name.lower() for name in hosts)
        if not given:
            return cls(secrets.token_urlsafe(32), True, names)
        if len(given) < SHORTEST_TOKEN:
            raise ConfigurationError(
                f"${TOKEN_VARIABLE}",
                cause=f"it has fewer than {SHORTEST_TOKEN} characters",
                fix="take a random one, as `openssl rand -hex 24` prints it, or leave the variable out",
            )
        return cls(given, False, names)

    def open_session(self, token: str) -> str | None:
        """Return the cookie of a new session, or None if that is not the token, or was used already."""
        if not self.token or not _same(token, self.token):
            return None
        if self.single_use:
            self.token = ""
        session = secrets.token_urlsafe(32)
        if len(self._sessions) >= _MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[session] = (secrets.token_urlsafe(32), self.clock() + SESSION_S)
        return session

    def form_secret(self, session: str | None) -> str | None:
        """Return what the forms of that session carry, or None if there is no such session."""
        for key, (secret, end) in self._sessions.items():
            if _same(session or "", key):
                return secret if self.clock() < end else None
        return None

    def may_act(self, session: str | None, form_secret: str) -> bool:
        """Return whether a form with that secret was made by our page for that session."""
        expected = self.form_secret(session)
        return expected is not None and _same(form_secret, expected)

    def knows_host(self, header: str) -> bool:
        """Return whether the `Host` of a request is one that we are reached by.

        A bare address is: a page that rebinds its own name to our address is asked for by that name.
        """
        name = host_name(header)
        return name == "localhost" or name in self.hosts or _is_address(name)


def host_name(header: str) -> str:
    """Return the name in a `Host` header, in lower case, without its port; empty if it is no such header."""
    try:
        split = urlsplit(f"//{header}")
        _ = split.port  # refuses what is no number
    except ValueError:
        return ""
    plain = split.path == split.query == split.fragment == "" and split.username is None
    return (split.hostname or "").rstrip(".") if plain else ""


def is_own_origin(origin: str | None, *, scheme: str, host: str) -> bool:
    """Return whether a request's `Origin` is the page that it asks; browsers send one with every POST."""
    return origin is not None and origin.lower() == f"{scheme}://{host}".lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
