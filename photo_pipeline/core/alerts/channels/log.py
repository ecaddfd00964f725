"""The channel `log`: Python's logging, under the name photo_pipeline.alerts."""

import logging

from photo_pipeline.core.alerts.alert import Message
from photo_pipeline.core.config import AlertingSettings

_LOGGER = logging.getLogger("photo_pipeline.alerts")


class LogChannel:
    """Writes each alert as a warning, and that it is over as information."""

    def __init__(self, settings: AlertingSettings) -> None:
        pass

    def send(self, message: Message) -> None:
        """Write it; this cannot fail."""
        level = logging.INFO if message.resolved else logging.WARNING
        _LOGGER.log(level, "%s. %s", message.title, " ".join(message.text.split()))
