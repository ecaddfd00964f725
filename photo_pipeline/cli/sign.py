"""`photo-pipeline sign`: a URL that opens a private file for a while."""

import re
from datetime import timedelta
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.project import open_project
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.delivery.signing import Grant, UrlSigner, at
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.terminal import Terminal

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def sign(
    key: Annotated[
        str, typer.Argument(help="The object's key; with --cookies a pattern, as in documents/17/*.")
    ],
    expires_in: Annotated[
        str, typer.Option("--expires-in", help="How long it is good: 90s, 15m, 1h, 7d.")
    ] = "1h",
    starts_at: Annotated[
        str | None, typer.Option("--from", help="When it begins to be good; ISO 8601, UTC unless it says.")
    ] = None,
    ip: Annotated[
        str | None, typer.Option("--ip", help="Good for this IPv4 address or network only.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--covers", help="Let the signature be good for all of this, as documents/17/*."),
    ] = None,
    cookies: Annotated[
        bool, typer.Option("--cookies", help="Print cookies for all that the key (a pattern) covers.")
    ] = False,
    json_: AsJson = False,
) -> int:
    """Print a URL (or cookies) that opens a private file of the CDN for a while.

    Example: photo-pipeline sign documents/17/passport.jpg --expires-in 15m
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        signer = UrlSigner.from_environment(UrlScheme.of(project.config))
    begin = at(starts_at) if starts_at else None
    grant = Grant((begin or utc_now()) + _duration(expires_in), begin, ip)
    result: dict[str, object] = {"expires_at": grant.expires_at}
    if cookies:
        made = dict(signer.cookies(key, grant))
        for name, value in made.items():
            terminal.say(f"{name}={value}")
        result["cookies"] = made
    else:
        url = signer.url_for_any(pattern, key, grant) if pattern else signer.url(key, grant)
        terminal.say(url)
        result["url"] = url
    terminal.result(result)
    return DONE


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if found is None:
        raise ConfigurationError(
            f"--expires-in {text}", cause="it is no time", fix="write 90s, 15m, 1h or 7d"
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
