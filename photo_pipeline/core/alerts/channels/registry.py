"""The channels there are. A new one is a module, a name in `core.config.alerts.Channel`, and a line here."""

from collections.abc import Callable, Mapping
from typing import Final

from photo_pipeline.core.alerts.channels.base import AlertChannel
from photo_pipeline.core.alerts.channels.email import EmailChannel
from photo_pipeline.core.alerts.channels.log import LogChannel
from photo_pipeline.core.alerts.channels.slack import SlackChannel
from photo_pipeline.core.alerts.channels.sns import SnsChannel
from photo_pipeline.core.config import AlertingSettings

CHANNELS: Final[Mapping[str, Callable[[AlertingSettings], AlertChannel]]] = {
    "log": LogChannel,
    "email": EmailChannel,
    "slack": SlackChannel,
    "sns": SnsChannel,
}


def open_channels(settings: AlertingSettings) -> dict[str, AlertChannel]:
    """Return the configured channels by name; none of them is asked for anything yet."""
    return {name: CHANNELS[name](settings) for name in settings.channels}
