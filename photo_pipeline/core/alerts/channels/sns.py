"""The channel `sns`: publishes to a topic of SNS, from where it goes to whoever subscribed."""

from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from photo_pipeline.core.alerts.alert import Message
from photo_pipeline.core.alerts.channels.base import AlertChannelError
from photo_pipeline.core.aws_errors import CREDENTIAL_ERRORS, credential_error, error_code, http_status
from photo_pipeline.core.aws_session import aws_session
from photo_pipeline.core.config import AlertingSettings
from photo_pipeline.core.errors import ConfigurationError

_THING = "alerts.sns"
# Two tries of at most 3 + 5 s.
_TIMEOUTS = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
_SUBJECT = 100


class SnsChannel:
    """Publishes each alert as one message, with its kind as an attribute to filter by."""

    def __init__(self, settings: AlertingSettings) -> None:
        if settings.sns is None:
            raise ConfigurationError(_THING, cause="the section is missing", fix="name topic_arn")
        self._topic = settings.sns.topic_arn

    def send(self, message: Message) -> None:
        """Publish it.

        Raises:
            ConfigurationError: no credentials, or they may not publish, or there is no such topic.
            AlertChannelError: SNS does not answer, or failed.
        """
        try:
            sns = self._client()
            sns.publish(
                TopicArn=self._topic,
                Subject=_subject(message.title),
                Message=message.text,
                MessageAttributes={
                    "kind": {"DataType": "String", "StringValue": str(message.alert.kind)},
                    "state": {
                        "DataType": "String",
                        "StringValue": "resolved" if message.resolved else "open",
                    },
                },
            )
        except CREDENTIAL_ERRORS as error:
            raise credential_error(error) from error
        except ClientError as error:
            cause = f"SNS refuses it ({error_code(error)}: {' '.join(str(error).split())[:200]})"
            if 400 <= http_status(error) < 500 and not error_code(error).startswith("Thrott"):
                fix = f"allow sns:Publish on {self._topic}, or correct alerts.sns.topic_arn"
                raise ConfigurationError(_THING, cause=cause, fix=fix) from error
            fix = "it is tried again at the next look"
            raise AlertChannelError(_THING, cause=cause, fix=fix) from error
        except BotoCoreError as error:
            cause = f"SNS does not answer ({' '.join(str(error).split())[:200]})"
            raise AlertChannelError(_THING, cause=cause, fix="it is tried again at the next look") from error

    def _client(self) -> Any:
        region = self._topic.split(":")[3]
        return aws_session(region).client("sns", region_name=region, config=_TIMEOUTS)


def _subject(title: str) -> str:
    """Return the title as SNS takes it: printable ASCII of at most 100 characters."""
    plain = "".join(each if " " <= each <= "~" else "?" for each in f"photo_pipeline: {title}")
    return plain[:_SUBJECT]
