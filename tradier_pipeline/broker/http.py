"""The HTTP client: where it may connect to, with which token, and what of it is never shown."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr

import httpx

from tradier_pipeline.broker.errors import excerpt
from tradier_pipeline.broker.receive import ACCEPT_ENCODING
from tradier_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr


_TIMEOUT = httpx.Timeout(10.0, read=30.0)  # Tradier documents none; clients in use wait up to 30 s for positions
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_SECRET_CHARS = 16  # Tradier: tokens have 28 characters


def open_http(base_url: str, token: SecretStr, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client that sends the token to one broker and nowhere else.

    Raises:
        PipelineError: unusable base_url or token, or variables of the environment that no connection can be made with.
    """
    url = _check_base_url(base_url)
    _check_token(token)
    trust_env = not is_loopback(url.host)
    if trust_env:
        _check_network_variables(os.environ)
    try:
        return _new_client(url, token, trust_env, transport)
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        named = " or ".join(sorted(name for name in os.environ if name.upper() in (*_PROXIES, *_CERTIFICATES)))
        raise PipelineError(
            f"no connection can be made with {named or 'the settings of this machine'}: {type(error).__name__}",
            "Correct it, or unset it.",  # without its value: a proxy's holds a password
        ) from None


def _new_client(
    url: httpx.URL, token: SecretStr, trust_env: bool, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url,
        headers={
            "Authorization": f"Bearer {token.get_secret_value()}",
            "Accept": "application/json",  # Tradier: the default is XML
            "Accept-Encoding": ACCEPT_ENCODING,
            "User-Agent": f"tradier-pipeline/{version('tradier-pipeline')}",
        },
        timeout=_TIMEOUT,
        follow_redirects=False,  # the header must not reach another host
        trust_env=trust_env,
        # Loading the certificate store takes longer than a snapshot of a local broker; this context trusts nobody.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.scheme == "http" else True,
        transport=transport,
        # one answer a connection: bytes that come after it, late or twice, would be taken for the answer to the next
        limits=httpx.Limits(max_keepalive_connections=0),
    )


def _check_network_variables(variables: Mapping[str, str]) -> None:
    """Raise PipelineError for a proxy or certificate variable that the HTTP library finds wrong too late or not at all.

    The message names the variable and not its value, which may hold a password.
    """
    for name, value in variables.items():
        if name.upper() in _PROXIES and name.upper() != "NO_PROXY" and value and not _is_proxy(value):
            raise PipelineError(f"{name} is not the URL of a proxy", "Set it to http://host:port, or unset it.")
        if name in _CERTIFICATES and value and not _holds_certificates(name, value):
            what = "file" if name == "SSL_CERT_FILE" else "directory"
            raise PipelineError(f"{name} names no {what} that can be read", "Correct it, or unset it.")


def _is_proxy(value: str) -> bool:
    try:
        url = httpx.URL(value if "://" in value else f"http://{value}")
        port = 1 if url.port is None else url.port
        return bool(_HOST_NAME.fullmatch(url.host)) and 0 < port < 65536 and url.scheme in _PROXY_SCHEMES
    except (httpx.InvalidURL, ValueError):
        return False


def _holds_certificates(name: str, value: str) -> bool:
    """Neither a device that never ends nor a pipe that never begins."""
    if name == "SSL_CERT_FILE":
        return Path(value).is_file() and os.access(value, os.R_OK)
    return any(Path(one).is_dir() and os.access(one, os.R_OK | os.X_OK) for one in value.split(os.pathsep) if one)


def masked(text: AnyStr, token: SecretStr) -> AnyStr:
    """What the broker said, without our token in case it is echoed; a short token is the simulator's, no secret."""
    secret = token.get_secret_value()
    if len(secret) < _SECRET_CHARS:
        return text
    if isinstance(text, str):
        return text.replace(secret, "[access token]")
    return text.replace(secret.encode(), b"[access token]")


def _check_base_url(base_url: str) -> httpx.URL:
    """The URL as the HTTP library reads it. Raises PipelineError if the token must not be sent there."""
    remedy = "Set TRADIER_BASE_URL to scheme, host and port only, e.g. https://api.tradier.com."
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise PipelineError("TRADIER_BASE_URL is not a URL", remedy) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise PipelineError("TRADIER_BASE_URL is not an https URL", remedy)
    if url.userinfo or url.path != "/" or url.query or url.fragment:
        raise PipelineError("TRADIER_BASE_URL has more than scheme, host and port", remedy)
    if url.scheme == "http" and not is_loopback(url.host):
        raise PipelineError(
            f"TRADIER_BASE_URL would send the access token unencrypted to {excerpt(url.host)}",
            "Use https; http is only for a broker simulated on this machine.",
        )
    return url


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_token(token: SecretStr) -> None:
    # The HTTP library would quote an unusable header value in its error.
    if not re.fullmatch(r"[!-~]+", token.get_secret_value()):
        raise PipelineError(
            "TRADIER_ACCESS_TOKEN is empty or has characters no token has",
            "Copy it again from the API access page of the account; mind spaces and line breaks.",
        )
