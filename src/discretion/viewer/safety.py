"""Safety of the case explorer: who may ask, what a page may do, and which forms count.

The texts of an audit are anybody's, and any site that the reader has open can send requests to this machine. So a page
may run and load nothing but its own, and a ruling needs this viewer's own form.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 64 * 1024
"""Bytes of a form; a ruling's reason is a few sentences."""
MOST_FIELDS = 1000
FORM = "application/x-www-form-urlencoded"

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'none'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    # Not "no-referrer": with that, browsers send "Origin: null" with this viewer's own forms too.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""On every response."""


class Refused(Exception):  # noqa: N818 - it is an answer: a status and what to say
    """A request that is not answered, with the status and the reason to give."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(reason)


class Safety:
    """Around the whole app: refuses what comes from elsewhere, and adds the headers to every response.

    Parameters
    ----------
    app : ASGI app
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if headers.getlist("host") and headers.getlist("host") == [host(scope)]:
            if _from_elsewhere(headers):
                refusal = PlainTextResponse("This page is for its own viewer only.", 403)
            else:
                await self.app(scope, receive, send_safely)
                return
        else:  # another name that leads to this machine: DNS rebinding
            refusal = PlainTextResponse(f"Ask for http://127.0.0.1:{_port(scope)}/", 421)
        await refusal(scope, receive, send_safely)


def _port(scope: Scope) -> int:
    server: Sequence[object] = scope.get("server") or ("127.0.0.1", 80)
    return int(str(server[1]))


def host(scope: Scope) -> str:
    """Return the Host of a request if it is a name of this server, the usual name otherwise."""
    port = _port(scope)
    names = ("127.0.0.1", "localhost", "[::1]")
    own = [f"{name}:{port}" for name in names] + (list(names) if port == 80 else [])
    given = Headers(scope=scope).get("host", "")
    return given if given in own else own[0]


def _from_elsewhere(headers: Headers) -> bool:
    """Whether another site's page asks for something other than to go to a page of ours.

    Following a link from elsewhere is welcome; loading a page unseen, to time its answer, is not.
    """
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    return site not in ("none", "same-origin") and mode != "navigate"


async def form(request: Request) -> list[tuple[str, str]]:
    """Read a form of this viewer's own pages; its token is checked apart, by `has_token`.

    Raises
    ------
    Refused
        It comes from another site, is no form, is too large, or is not UTF-8.
    """
    origin = request.headers.get("origin")
    if origin is None and request.headers.get("sec-fetch-site") != "same-origin":
        raise Refused(403, "A ruling needs a browser that says where a form comes from.")
    if origin is not None and origin != f"http://{host(request.scope)}":
        raise Refused(403, "This form comes from another site.")
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        raise Refused(415, f"Expected a form ({FORM}).")
    body = await _body(request)
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise Refused(400, "The form could not be read: it is no UTF-8, or has too many fields.") from error


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    too_large = Refused(413, f"The form is too large. Expected at most {LARGEST_BODY // 1024} KiB.")
    if len(length) > 9 or not length.isdecimal() or int(length) > LARGEST_BODY:
        raise too_large
    found = bytearray()
    try:
        async for part in request.stream():  # a chunked body says no length
            found += part
            if len(found) > LARGEST_BODY:
                raise too_large
    except ClientDisconnect as error:
        raise Refused(400, "The form broke off.") from error
    return bytes(found)


def has_token(fields: Sequence[tuple[str, str]], token: str) -> bool:
    """Whether a form holds the token that this process put into its pages, and only that."""
    given = [value for name, value in fields if name == "token"]
    return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "replace"), token.encode())
