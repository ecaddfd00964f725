"""The channel `slack`: an incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat).

Whoever knows the URL can post: it is a secret, so it is in the environment, and never part of a message.
"""

import json
import os
from urllib.parse import urlsplit

import urllib3

from photo_pipeline.core.alerts.alert import Message
from photo_pipeline.core.alerts.channels.base import TIMEOUT_S, AlertChannelError
from photo_pipeline.core.config import AlertingSettings
from photo_pipeline.core.errors import ConfigurationError

WEBHOOK_ENV = "PHOTO_PIPELINE_SLACK_WEBHOOK_URL"
_LOCAL = ("127.0.0.1", "localhost", "::1")
_LONGEST = 3_000


class SlackChannel:
    """Posts each alert as one message."""

    def __init__(self, settings: AlertingSettings) -> None:
        pass

    def send(self, message: Message) -> None:
        """Post it.

        Raises:
            ConfigurationError: there is no usable URL, or Slack does not know it.
            AlertChannelError: Slack does not answer, or failed.
        """
        body = json.dumps({"text": f"*{_escaped(message.title)}*\n{_escaped(message.text)[:_LONGEST]}"})
        thing = f"${WEBHOOK_ENV}"
        try:
            answer = urllib3.request(
                "POST",
                _url(),
                body=body,
                headers={"Content-Type": "application/json"},
                timeout=TIMEOUT_S,
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Without the cause: its text may quote the URL.
            cause = f"the webhook does not answer ({type(error).__name__})"
            raise AlertChannelError(thing, cause=cause, fix="it is tried again at the next look") from None
        if answer.status == 200:
            return
        cause = f"the webhook answers HTTP {answer.status}"
        if answer.status in (400, 401, 403, 404, 410):
            raise ConfigurationError(thing, cause=cause, fix="make a new webhook, and set its URL")
        raise AlertChannelError(thing, cause=cause, fix="it is tried again at the next look")


def _url() -> str:
    url = os.environ.get(WEBHOOK_ENV, "").strip()
    try:
        parts = urlsplit(url)
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL):
            return url
    except ValueError:
        pass  # half an IPv6 address, say: no URL either; without its text, which would quote the secret
    cause = "it is no https:// URL" if url else "it is not set"
    raise ConfigurationError(f"${WEBHOOK_ENV}", cause=cause, fix="set it to the webhook's URL") from None


def _escaped(text: str) -> str:
    """Return the text such that Slack takes nothing in it for a link, a mention or a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
