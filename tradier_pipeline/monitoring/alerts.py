"""Sending a message to the people who look after the history: mail, a webhook, a chat, whatever Apprise knows."""

from __future__ import annotations

import logging
import re

from pydantic import SecretStr

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.texts import printable

_BETWEEN_URLS = re.compile(r"[,\s]+(?=[A-Za-z0-9]+://)")  # a URL itself may have commas: ?to=a@b.com,c@d.com


class AlertError(PipelineError):
    """A message reached nobody."""


def send(urls: SecretStr | None, title: str, text: str) -> list[str]:
    """Send a message to every one of the Apprise URLs; without any there is nothing to do.

    Returns:
        What was not delivered, a line each, without the URLs: they hold passwords and tokens.

    Raises:
        AlertError: it was delivered nowhere.
    """
    if urls is None:
        return []
    title, text = printable(title), "\n".join(map(printable, text.splitlines()))
    try:
        from apprise import Apprise  # only who is to be alerted something needs it
    except ImportError:
        raise AlertError(
            "TRADIER_ALERT_URLS is set, and the library that sends alerts is not installed",
            "Install it: `pip install apprise`.",
        ) from None
    logging.getLogger("apprise").disabled = True  # it quotes the URLs
    targets = _BETWEEN_URLS.split(urls.get_secret_value().strip(" ,"))
    problems: list[str] = []
    for place, url in enumerate(targets, 1):
        messenger = Apprise()
        if not messenger.add(url):
            problems.append(f"URL {place} of TRADIER_ALERT_URLS is not one that Apprise knows")
        elif not messenger.notify(title=title, body=text):
            problems.append(f"URL {place} of TRADIER_ALERT_URLS ({url.partition(':')[0]}) took no message")
    if len(problems) == len(targets):
        remedy = "Check them with `apprise -vv -b test URL`."
        raise AlertError(f"the alert {title!r} was delivered nowhere: {'; '.join(problems)}", remedy)
    return problems
