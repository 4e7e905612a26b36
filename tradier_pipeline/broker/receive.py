"""The bytes of an answer: one content coding, never more than a limit, and never the event loop for long."""

from __future__ import annotations

import asyncio
import zlib

import httpx

from tradier_pipeline.broker.errors import BodyError, UnavailableError, excerpt

ACCEPT_ENCODING = "gzip"

_GZIP = ("gzip", "x-gzip")
_NOT_CODED = ("", "identity")
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_STEP_BYTES = 1 << 20  # unpacked between two looks at what else is to be done: about a millisecond


async def receive_body(response: httpx.Response, resource: str, limit: int) -> bytes:
    """Read the body of a streamed response and unpack it.

    Several codings on top of each other turn a few hundred bytes into gigabytes; no broker needs them.

    Args:
        limit: bytes, of the body as sent and as unpacked.

    Raises:
        BodyError: it is larger, or coded in another way than by gzip, once.
        UnavailableError: it is no whole gzip.
        httpx.RequestError: the connection broke.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in (*_GZIP, *_NOT_CODED):
        raise BodyError(resource, f"the body has the content coding {excerpt(coding)}, and gzip was asked for")
    body = bytearray()
    unpacking = zlib.decompressobj(_GZIP_WINDOW) if coding in _GZIP else None
    async for chunk in response.aiter_raw():
        _refuse_larger(response.num_bytes_downloaded, resource, limit)  # what is packed may never become a byte
        if unpacking is None:
            body += chunk
        else:
            await _unpack(unpacking, chunk, body, resource, limit)
    if unpacking is not None and (not unpacking.eof or unpacking.unused_data):
        raise _not_gzip(resource, "it is cut off or has something after its end")
    return bytes(body)


async def _unpack(unpacking: zlib._Decompress, chunk: bytes, body: bytearray, resource: str, limit: int) -> None:
    while not unpacking.eof:
        try:
            piece = unpacking.decompress(chunk, _STEP_BYTES)
        except zlib.error as error:
            raise _not_gzip(resource, str(error)) from None
        body += piece
        _refuse_larger(len(body), resource, limit)
        chunk = unpacking.unconsumed_tail
        if not chunk and len(piece) < _STEP_BYTES:
            return
        await asyncio.sleep(0)


def _refuse_larger(size: int, resource: str, limit: int) -> None:
    if size > limit:
        raise BodyError(resource, f"the body is larger than the limit of {limit} bytes")


def _not_gzip(resource: str, why: str) -> UnavailableError:
    what = f"DecodingError: the body is not the gzip that it is said to be: {why}"
    return UnavailableError(resource, what, "The next snapshot tries again.", transient=True)
