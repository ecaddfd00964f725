"""What a channel is to the rest: something that sends a message, or says why it could not."""

from typing import Protocol

from photo_pipeline.core.alerts.alert import Message
from photo_pipeline.core.errors import InfrastructureError

TIMEOUT_S = 10
"""How long one step of sending may take. A tick with three dead channels must stay well below a minute."""


class AlertChannelError(InfrastructureError):
    """A channel could not take a message; it is sent at the next look."""


class AlertChannel(Protocol):
    """One way to tell people."""

    def send(self, message: Message) -> str | None:
        """Send it.

        Returns:
            What went wrong although it was sent (one of several recipients was refused, say), or None.

        Raises:
            ConfigurationError: what the channel needs is missing or refused.
            AlertChannelError: it does not answer, or failed.
        """
