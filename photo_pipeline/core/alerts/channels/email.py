"""The channel `email`: one plain-text mail to all recipients, over a mail server of yours."""

import os
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from photo_pipeline.core.alerts.alert import Message
from photo_pipeline.core.alerts.channels.base import TIMEOUT_S, AlertChannelError
from photo_pipeline.core.config import AlertingSettings, EmailSettings
from photo_pipeline.core.errors import ConfigurationError

USERNAME_ENV = "PHOTO_PIPELINE_SMTP_USERNAME"
PASSWORD_ENV = "PHOTO_PIPELINE_SMTP_PASSWORD"
_THING = "alerts.email"


class EmailChannel:
    """Sends mails; logs in if the environment holds a user and a password."""

    def __init__(self, settings: AlertingSettings) -> None:
        if settings.email is None:
            raise ConfigurationError(_THING, cause="the section is missing", fix="name host and recipients")
        self._settings: EmailSettings = settings.email

    def send(self, message: Message) -> str | None:
        """Send it to all recipients.

        Returns:
            Which recipients were refused while others were not.

        Raises:
            ConfigurationError: the server refuses the login, the sender, a recipient or encryption; or
                only half of the login is set, or it would go over the wire in the clear.
            AlertChannelError: the server does not answer, or failed.
        """
        login = self._login()
        settings = self._settings
        at = f"{settings.host}:{settings.port}"
        try:
            with self._connected() as server:
                if login is not None:
                    server.login(*login)
                refused = server.send_message(self._mail(message))
        except smtplib.SMTPAuthenticationError as error:
            cause = f"{at} refuses the login (SMTP {error.smtp_code})"
            raise ConfigurationError(_THING, cause=cause, fix=f"correct ${USERNAME_ENV}") from None
        except smtplib.SMTPNotSupportedError as error:
            cause = f"{at} does not offer what is needed ({_one_line(error)})"
            raise ConfigurationError(_THING, cause=cause, fix="set security to what it offers") from error
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
            cause = f"{at} refuses {_refused(error)}"
            raise ConfigurationError(_THING, cause=cause, fix="correct sender or recipients") from error
        except (smtplib.SMTPException, OSError, UnicodeError) as error:  # the last of a host name
            cause = f"the mail server at {at} did not take the mail ({_one_line(error)})"
            raise AlertChannelError(_THING, cause=cause, fix="it is tried again at the next look") from error
        # No error: who has got the mail must not get it again each minute.
        return f"{at} refuses {', '.join(sorted(refused))}; the others got it" if refused else None

    def _login(self) -> tuple[str, str] | None:
        user, password = os.environ.get(USERNAME_ENV), os.environ.get(PASSWORD_ENV)
        if not user and not password:
            return None
        if not user or not password:
            missing = PASSWORD_ENV if user else USERNAME_ENV
            raise ConfigurationError(
                f"${missing}", cause="only the other half of the login is set", fix="set it"
            )
        if self._settings.security == "none":
            cause = "the password would be sent in the clear"
            raise ConfigurationError(_THING, cause=cause, fix="set security to starttls or tls")
        return user, password

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        if settings.security == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(settings.host, settings.port, timeout=TIMEOUT_S, context=context)
        server = smtplib.SMTP(settings.host, settings.port, timeout=TIMEOUT_S)
        if settings.security == "starttls":
            try:
                # Raises where the server does not offer it: there is no way back to the clear.
                server.starttls(context=ssl.create_default_context())
            except BaseException:
                server.close()
                raise
        return server

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self._settings.sender
        mail["To"] = ", ".join(self._settings.recipients)
        mail["Subject"] = f"[photo_pipeline] {message.title}"
        mail["Date"] = formatdate(localtime=False)
        mail["Message-ID"] = make_msgid(domain=self._settings.sender.rpartition("@")[2])
        # So that no out-of-office answer comes back.
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail


def _refused(error: smtplib.SMTPRecipientsRefused | smtplib.SMTPSenderRefused) -> str:
    if isinstance(error, smtplib.SMTPSenderRefused):
        return f"the sender {error.sender}"
    return ", ".join(sorted(error.recipients))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
