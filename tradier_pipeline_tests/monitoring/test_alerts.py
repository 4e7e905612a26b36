"""Sending: over real sockets, and never a URL in what is said about it."""

from __future__ import annotations

import logging
import sys

import pytest
from pydantic import SecretStr

from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.monitoring.alerts import AlertError, send
from tradier_pipeline_tests.support.inboxes import mail_server, webhook

NOBODY = "json://user:hunter2@127.0.0.1:1/token-in-the-path"


def test_a_message_reaches_a_webhook_and_a_mail_box() -> None:
    with webhook() as hook, mail_server() as (port, mails):
        mail = f"mailto://127.0.0.1:{port}?from=up@example.com&to=a@example.com,b@example.com"
        assert send(SecretStr(f"{hook.url}, {mail}"), "Tradier: x failed", "Because. Do this.") == []
    assert [(message["title"], message["message"]) for message in hook.messages] == [
        ("Tradier: x failed", "Because. Do this.")
    ]
    assert len(mails) == 2
    assert "Subject: Tradier: x failed" in mails[0]
    assert "Because. Do this." in mails[0]


def test_without_urls_nothing_is_sent_and_the_library_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert send(None, "x", "y") == []


def test_a_missing_library_is_one_line_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(AlertError, match="pip install apprise"):
        send(SecretStr(NOBODY), "x", "y")


def test_one_that_is_down_does_not_keep_the_others_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    with webhook() as hook:
        problems = send(SecretStr(f"{NOBODY} nonsense://x {hook.url}"), "x", "y")
    assert problems == [
        "URL 1 of TRADIER_ALERT_URLS (json) took no message",
        "URL 2 of TRADIER_ALERT_URLS is not one that Apprise knows",
    ]
    assert hook.titles == ["x"]


@pytest.mark.parametrize("urls", [NOBODY, "hunter2", "mailto://me:hunter2@[", "slack://hunter2"])
def test_a_message_that_reaches_nobody_is_an_error_without_secrets(
    urls: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(AlertError) as error:
        send(SecretStr(urls), "x", "y")
    text = str(error.value) + repr(error.value) + caplog.text + "".join(capfd.readouterr())
    assert "TRADIER_ALERT_URLS" in text
    for secret in ("hunter2", "token-in-the-path"):
        assert secret not in text


def test_the_urls_are_a_secret_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_ALERT_URLS", NOBODY)
    settings = load_settings()
    assert settings.alert_urls is not None
    assert settings.alert_urls.get_secret_value() == NOBODY
    assert "hunter2" not in repr(settings) + str(settings.model_dump())
