"""Asking a server that may fail: timeouts, retries with growing waits, and a plain sentence at the end.

    patiently(lambda: receive(send(url, patience), 1 << 20), patience, url)

What may pass (no connection, a cut answer, 408, 425, 429, 5xx) is asked again, after the time that the server names or
twice as long as before; what will not pass (404, say) is a ``RefusedError`` at once.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError

Result = TypeVar("Result")

_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_ROAD = 100


class Patience(Config):
    """How long to wait for an answer, and how often to ask again; all times in seconds."""

    timeout: float = Field(default=60.0, gt=0, description="for a connection, and between two pieces of an answer")
    attempts: int = Field(default=6, ge=1, description="without any progress between them")
    first_wait: float = Field(default=1.0, ge=0, description="doubled after each attempt without progress")
    longest_wait: float = Field(default=120.0, ge=0, description="also where the server asks for more")


class UnreliableError(Exception):
    """An attempt failed in a way that may pass; ``wait`` is what the server asked for, ``progressed`` if some came."""

    def __init__(self, reason: str, wait: float | None = None, *, progressed: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.progressed = wait, progressed


class RefusedError(HerdError):
    """The server answers, and what it says will not pass; ``status`` is its number."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def send(
    url: str, patience: Patience, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> http.client.HTTPResponse:
    """The beginning of the answer to a request (POST with ``body``, else GET); close it when done.

    Raises:
        UnreliableError: it may be asked again.
        RefusedError: the server refuses.
    """
    request = urllib.request.Request(url, data=body, headers={"User-Agent": "herd", **(headers or {})})
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=patience.timeout)
    except urllib.error.HTTPError as error:
        with error:
            said = f"the server answers {error.code} {error.reason}"
            if error.code in _MAY_PASS:
                raise UnreliableError(said, _seconds(error.headers.get("Retry-After"))) from None
            raise RefusedError(f"{url}: {said}", error.code) from None
    except (OSError, http.client.HTTPException) as error:
        raise UnreliableError(
            f"no answer ({getattr(error, 'reason', None) or error or type(error).__name__})"
        ) from None
    return response


def receive(response: http.client.HTTPResponse, most: int) -> bytes:
    """Up to ``most`` further bytes of an answer; fewer only at its end, which may have come too early."""
    try:
        return response.read(most)
    except (OSError, http.client.HTTPException) as error:
        raise UnreliableError(f"the answer broke off ({str(error) or type(error).__name__})") from None


def patiently(work: Callable[[], Result], patience: Patience, what: str) -> Result:
    """The result of ``work``, tried again after ``UnreliableError``; at last a ``HerdError`` about ``what``."""
    failures, wait, reason = 0, patience.first_wait, ""
    for _ in range(_LONGEST_ROAD):
        try:
            return work()
        except UnreliableError as error:
            reason = str(error)
            failures = 0 if error.progressed else failures + 1
            wait = patience.first_wait if error.progressed else wait
            if failures >= patience.attempts:
                break
            time.sleep(min(max(wait, error.wait or 0.0), patience.longest_wait))
            wait = min(2 * wait, patience.longest_wait)
    raise HerdError(f"{what}: {reason}; given up after {max(failures, 1)} attempts without progress")


def _seconds(text: str | None) -> float | None:
    """Seconds of a Retry-After header; the form with a date is not worth a parser: the usual wait does."""
    return float(text) if text and text.isdigit() else None
