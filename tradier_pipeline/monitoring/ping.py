"""The switch that works when everything is dead: a URL of the owner's hears of every publish, and raises the alarm when
it hears nothing. It is a secret: whoever knows it can keep the alarm silent.
"""

from __future__ import annotations

import atexit
import logging
import threading

import httpx
from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.monitoring.freshness import read_freshness

LOGGER = logging.getLogger(__name__)
TIMEOUT_S = 5.0


class PingError(PipelineError):
    """The URL did not take the ping. Says what happened and never the URL."""


def ping(url: SecretStr, text: str = "") -> None:
    """POST to a URL, without following it elsewhere.

    Raises:
        PingError: it did not answer with success in time.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it quotes the URLs
    remedy = "Check TRADIER_PING_URL."
    try:
        response = httpx.post(url.get_secret_value(), content=text.encode(), timeout=TIMEOUT_S, follow_redirects=False)
    except Exception as error:  # whatever a name, a certificate, a proxy or a socket leads to
        raise PingError(f"the ping was not taken: {type(error).__name__}", remedy) from None
    if not response.is_success:
        raise PingError(f"the ping was not taken: HTTP {response.status_code}", remedy)


def ping_published(settings: Settings) -> threading.Thread | None:
    """Tell the URL in the background, if there is one, that something was published; never raises, never waits.

    Only while the history of every account is current: another one's snapshots keep no alarm silent, nor does an old
    snapshot that is published again.
    """
    url = settings.ping_url
    if url is None:
        return None

    def tell() -> None:
        try:
            freshness = read_freshness(settings, clock.now())
            if freshness.stale or None in freshness.newest.values():
                LOGGER.warning("no ping: %s", freshness)
                return
            ping(url)
        except Exception as error:  # it costs nobody a snapshot
            LOGGER.warning("%s", error if isinstance(error, PipelineError) else f"no ping: {type(error).__name__}")

    thread = threading.Thread(target=tell, name="ping", daemon=True)
    thread.start()
    atexit.register(thread.join, TIMEOUT_S)  # a process that is about to end gives it the time of one ping
    return thread
