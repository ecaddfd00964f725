"""Each channel against a real receiver: a mail server, an HTTP server, an SNS topic of moto with a queue."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.alerts.alert import Alert, AlertKind, Message
from photo_pipeline.core.alerts.channels.base import AlertChannelError
from photo_pipeline.core.alerts.channels.registry import open_channels
from photo_pipeline.core.config import AlertingSettings
from photo_pipeline.core.errors import ConfigurationError, PhotoPipelineError
from photo_pipeline_tests.pretend_aws import PretendAws
from photo_pipeline_tests.receivers import (
    PASSWORD,
    USER,
    Mailbox,
    Topic,
    Webhook,
    mail_server,
    webhook_server,
)
from photo_pipeline_tests.sockets import free_port

ALERT = Alert(
    AlertKind.FAILURE_RATE,
    "photos",
    "Half of the\r\nBcc: everybody@shop.example photos <failed> & more … ünd",
    "Look at uploads/ä <!channel> & b.jpg\n.\nand so on",
)
MESSAGE = Message(ALERT, "bucket shop", resolved=False, times=3, since=datetime(2026, 11, 20, tzinfo=UTC))


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook_server() as running:
        monkeypatch.setenv("PHOTO_PIPELINE_SLACK_WEBHOOK_URL", running.url)
        yield running


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mailbox, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    with mail_server(folder) as mailbox:
        yield mailbox, folder / "mail.pem"


@pytest.fixture
def mailbox(certified: tuple[Mailbox, Path], monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox, path = certified
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for received in (mailbox.mails, mailbox.recipients, mailbox.encrypted, mailbox.refuse):
        received.clear()
    return mailbox


def login(monkeypatch: pytest.MonkeyPatch, user: str | None = USER, password: str | None = PASSWORD) -> None:
    for name, value in (("USERNAME", user), ("PASSWORD", password)):
        if value is None:
            monkeypatch.delenv(f"PHOTO_PIPELINE_SMTP_{name}", raising=False)
        else:
            monkeypatch.setenv(f"PHOTO_PIPELINE_SMTP_{name}", value)


def send(name: str, **settings: Any) -> str | None:
    settings = {"channels": [name]} | settings
    (channel,) = open_channels(AlertingSettings.model_validate(settings)).values()
    return channel.send(MESSAGE)


def email(port: int, **more: Any) -> str | None:
    about = {
        "host": "localhost",
        "port": port,
        "sender": "p@shop.example",
        "recipients": ["ops@shop.example"],
    }
    return send("email", email=about | more)


def test_a_mail_goes_encrypted_and_logged_in_to_all_recipients(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(monkeypatch)
    assert email(mailbox.port, recipients=["ops@shop.example", "boss@shop.example"]) is None
    (mail,) = mailbox.mails
    assert mailbox.encrypted == [True]
    assert mailbox.recipients == ["ops@shop.example", "boss@shop.example"]
    # The line break of a title makes no header of what follows it.
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("[photo_pipeline] Half of the Bcc: everybody@shop.example photos")
    text = mail.get_content().replace("\r\n", "\n")
    assert "Look at uploads/ä <!channel> & b.jpg\n.\nand so on" in text
    assert "bucket shop" in text
    assert "3 times" in text


def test_a_mail_is_not_sent_to_a_server_without_its_encryption_or_with_another_certificate(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(monkeypatch)
    with mail_server() as open_server:
        with pytest.raises(ConfigurationError, match="does not offer what is needed"):
            email(open_server.port)
        assert open_server.mails == []
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(AlertChannelError, match="certificate verify failed"):
        email(mailbox.port)
    assert mailbox.mails == []


def test_a_password_never_goes_in_the_clear_and_half_a_login_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mail_server() as open_server:
        login(monkeypatch)
        with pytest.raises(ConfigurationError, match="in the clear"):
            email(open_server.port, security="none")
        login(monkeypatch, password=None)
        with pytest.raises(ConfigurationError, match="PHOTO_PIPELINE_SMTP_PASSWORD"):
            email(open_server.port, security="none")
        login(monkeypatch, user=None, password=None)
        assert email(open_server.port, security="none") is None
        assert open_server.encrypted == [False]


def test_a_refused_login_is_said_without_the_password(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(monkeypatch, password="wrong-secret")
    with pytest.raises(ConfigurationError, match="refuses the login") as refused:
        email(mailbox.port)
    assert "wrong-secret" not in str(refused.value)


def test_one_refused_recipient_does_not_keep_the_mail_from_the_others(mailbox: Mailbox) -> None:
    mailbox.refuse.add("gone@shop.example")
    remark = email(mailbox.port, recipients=["ops@shop.example", "gone@shop.example"])
    assert remark is not None
    assert "gone@shop.example" in remark
    assert mailbox.recipients == ["ops@shop.example"]
    with pytest.raises(ConfigurationError, match=r"gone@shop\.example"):
        email(mailbox.port, recipients=["gone@shop.example"])


def test_a_dead_mail_server_is_an_infrastructure_error() -> None:
    for host in ("127.0.0.1", "no.such.host.invalid", "a" * 70):
        with pytest.raises(AlertChannelError, match="did not take the mail"):
            email(free_port(), host=host)


def test_a_webhook_gets_text_in_which_nothing_is_a_mention(webhook: Webhook) -> None:
    assert send("slack") is None
    (text,) = webhook.texts
    assert "&lt;failed&gt; &amp; more … ünd" in text
    assert "<!channel>" not in text
    assert "uploads/ä" in text


@pytest.mark.parametrize(("status", "kind"), [(404, ConfigurationError), (503, AlertChannelError)])
def test_a_webhook_that_refuses_is_named_without_its_secret(
    webhook: Webhook, status: int, kind: type[PhotoPipelineError]
) -> None:
    webhook.status = status
    with pytest.raises(kind, match=f"HTTP {status}") as refused:
        send("slack")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "it is not set"),
        ("http://hooks.example/services/hush", "no https:// URL"),
        ("file:///etc/passwd", "no https:// URL"),
        ("https://[::1/services/hush", "no https:// URL"),
        ("http://127.0.0.1:1/services/hush", "does not answer"),
        ("https://127.0.0.1:1/services/hush", "does not answer"),
    ],
)
def test_a_webhook_that_cannot_be_used_is_named_without_its_secret(
    url: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url is None:
        monkeypatch.delenv("PHOTO_PIPELINE_SLACK_WEBHOOK_URL", raising=False)
    else:
        monkeypatch.setenv("PHOTO_PIPELINE_SLACK_WEBHOOK_URL", url)
    with pytest.raises(PhotoPipelineError, match=says) as refused:
        send("slack")
    error: BaseException | None = refused.value
    while error is not None:  # neither in what a log would show of its causes
        assert "hush" not in str(error)
        error = error.__cause__


def test_a_topic_of_moto_hands_the_message_to_its_queue(
    aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PretendAws() as aws:
        topic = Topic(aws.url, "eu-central-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", aws.url)
        assert send("sns", sns={"topic_arn": topic.arn}) is None
        (published,) = topic.take()
        assert published["Subject"].startswith("photo_pipeline: Half of the Bcc: everybody@")
        assert len(published["Subject"]) <= 100
        assert "Look at uploads/ä" in published["Message"]
        assert published["MessageAttributes"]["kind"]["Value"] == "failure_rate"
        with pytest.raises(ConfigurationError, match="sns:Publish"):
            send("sns", sns={"topic_arn": f"{topic.arn}-gone"})
    with pytest.raises(AlertChannelError, match="SNS does not answer"):
        send("sns", sns={"topic_arn": topic.arn})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(ConfigurationError, match="there are none in the environment"):
        send("sns", sns={"topic_arn": topic.arn})


def test_the_log_has_one_line_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="photo_pipeline.alerts"):
        assert send("log") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "\n" not in record.getMessage()
