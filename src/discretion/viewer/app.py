"""The routes of the case explorer.

Pages are made one at a time, on the event loop: the index answers in milliseconds, and one reader is the rule. Only a
ruling is written in a thread of its own, since it may wait for another viewer's lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from discretion import rulings
from discretion.audit import Progress
from discretion.cases.query import ATTRIBUTE, Query
from discretion.errors import QueryError, RulingError, shown
from discretion.report.page import vega
from discretion.viewer import case_page, pages
from discretion.viewer.explorer import Explorer
from discretion.viewer.rendering import render, url
from discretion.viewer.safety import Refused, Safety, form, has_token

STATIC = {
    "style.css": ("discretion.report", "text/css"),
    "report.css": ("discretion.report", "text/css"),
    "report.js": ("discretion.report", "text/javascript"),
    "viewer.css": ("discretion.viewer", "text/css"),
    "viewer.js": ("discretion.viewer", "text/javascript"),
}
"""Every file that is served, with the package whose templates hold it; `vega.js` comes from its own package."""

_VEGA = "vega.js"
_COOKIE = "reviewer"
_LONGEST_NAME = 80
_YEAR = 365 * 24 * 3600
_QUERY_FIELDS = ("state", "principle", "over", "annotator", "side", "other", "text", "ruled", "sort")


def application(audit_folder: Path, progress: Progress = lambda stage, done: None) -> ASGIApp:
    """Return the case explorer of a saved audit, as an ASGI app.

    Raises
    ------
    SavedAuditError
        The folder is no saved audit.
    """
    routes = [
        Route("/", _overview),
        Route("/cases", _cases),
        Route("/case", _case),
        Route("/report", _report),
        Route("/rulings", _rulings),
        Route("/rulings", _rule, methods=["POST"]),
        Route("/rulings.jsonl", _export),
        Route("/static/{name}", _static),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error, QueryError: _query_error, Refused: _refusal,
            RulingError: _unreadable, Exception: _failure,
        },
    )  # fmt: skip
    app.router.redirect_slashes = False
    app.state.explorer = Explorer(audit_folder, progress)
    # Outside all of Starlette's own layers: the page of an unforeseen error needs the headers too.
    return Safety(app)


def _explorer(request: Request) -> Explorer:
    explorer: Explorer = request.app.state.explorer
    return explorer


def _page(request: Request, template: str, context: Mapping[str, Any], status: int = 200) -> Response:
    explorer = _explorer(request)
    common = {"name": explorer.audit.name, "path": request.url.path}
    return HTMLResponse(render(template, common | dict(context)), status)


async def _overview(request: Request) -> Response:
    return _page(request, "overview.html", pages.overview(_explorer(request)))


async def _cases(request: Request) -> Response:
    explorer = _explorer(request)
    query = explorer.query(request.query_params.multi_items())
    return _page(request, "cases.html", pages.listing(explorer, query, request.query_params.get("page", "")))


async def _case(request: Request) -> Response:
    explorer = _explorer(request)
    given = request.query_params
    draft = case_page.Draft(reviewer=_reviewer(request))
    return _one(request, explorer.query(given.multi_items()), given.get("id", ""), draft, given.get("done", ""))


def _one(
    request: Request, query: Query, id: str, draft: case_page.Draft, done: str = "", status: int = 200
) -> Response:
    explorer = _explorer(request)
    _require(explorer, id)
    context = case_page.case_page(explorer, query, id, draft, done)
    return _page(request, "case.html", {**context, "path": "/case"}, status)  # also where a form was answered by it


def _require(explorer: Explorer, id: str) -> None:
    if id not in explorer:
        raise HTTPException(404, f"There is no case {shown(id)} in this audit.")


async def _rule(request: Request) -> Response:
    """Record a ruling or a withdrawal; a reviewer who made a mistake finds everything still typed."""
    explorer = _explorer(request)
    given = await form(request)
    values = dict(reversed(given))
    place = parse_qsl(values.get("place", ""))
    query, id, draft = explorer.query(place), dict(place).get("id", ""), case_page.draft(given)
    if not has_token(given, explorer.token):
        wrong = "This page was open since before the viewer last started. Nothing was recorded; please send it again."
        return _one(request, query, id, case_page.draft(given, wrong), status=403)
    _require(explorer, id)
    names = explorer.audit.table.constitution.names
    try:
        await run_in_threadpool(
            rulings.record, explorer.folder,
            case=id, ruling=draft.ruling, reason=draft.reason, reviewer=draft.reviewer,
            governed=tuple(names[k] for k in sorted(draft.governed) if k < len(names)),
            content=explorer.content(id), constitution=explorer.audit.table.constitution.digest, principles=names,
        )  # fmt: skip
    except RulingError as error:
        return _one(request, query, id, case_page.draft(given, str(error)), status=422)
    done = "withdrawn" if draft.ruling == "withdrawn" else "ruled"
    response = RedirectResponse(url("/case", query, id=id, done=done) + "#rulings", 303)
    if done == "ruled" and len(draft.reviewer) <= _LONGEST_NAME:
        response.set_cookie(
            _COOKIE, quote(draft.reviewer, safe=""), max_age=_YEAR, path="/", httponly=True, samesite="strict"
        )
    return response


def _reviewer(request: Request) -> str:
    return unquote(request.cookies.get(_COOKIE, ""))[:_LONGEST_NAME]


async def _rulings(request: Request) -> Response:
    explorer, given = _explorer(request), request.query_params
    context = pages.rulings(explorer, given.get("principle", ""), given.get("page", ""))
    return _page(request, "rulings.html", context)


async def _export(request: Request) -> Response:
    standing = request.query_params.get("standing") == "1"
    content = _explorer(request).export(standing_only=standing)
    headers = {"content-disposition": 'attachment; filename="rulings.jsonl"'}
    return Response(content, media_type="application/x-ndjson", headers=headers)


async def _report(request: Request) -> Response:
    return HTMLResponse(await run_in_threadpool(pages.report_page, _explorer(request)))


@cache
def _asset(name: str) -> tuple[bytes, str, str]:
    if name == _VEGA:
        content, media_type = vega().encode(), "text/javascript"
    else:
        package, media_type = STATIC[name]
        content = (files(package) / "templates" / name).read_bytes()
    return content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC and name != _VEGA:
        raise HTTPException(404, "There is no such file.")
    content, media_type, tag = _asset(name)
    # Asked anew each time, answered by the tag: another version of the package may serve the same address.
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _message(
    request: Request, status: int, title: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a page that says what went wrong; with the filters as they were asked for, to be put right."""
    explorer = _explorer(request)
    given = {
        name: value for name, value in request.query_params.multi_items()
        if name in _QUERY_FIELDS or name.removeprefix(ATTRIBUTE) in explorer.cases.filters
    }  # fmt: skip
    filled = pages.form(explorer, given, None) if status == 400 and request.method == "GET" else None
    page = _page(request, "message.html", {"title": title, "message": message, "form": filled}, status)
    page.headers.update(headers or {})
    return page


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles = {404: "Not found", 405: "Not possible here"}
    texts = {"Not Found": "There is no such page.", "Method Not Allowed": "This page cannot be asked for in that way."}
    message = texts.get(error.detail, error.detail)
    return _message(request, error.status_code, titles.get(error.status_code, "No"), message, error.headers)


async def _query_error(request: Request, error: Exception) -> Response:
    return _message(request, 400, "This question has no answer", str(error))


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _message(request, error.status, "Not recorded", error.reason)


async def _unreadable(request: Request, error: Exception) -> Response:
    return _message(request, 500, "The rulings cannot be read", str(error))


async def _failure(request: Request, error: Exception) -> Response:
    return _message(request, 500, "Something went wrong", "The viewer failed at this page; its terminal says how.")
