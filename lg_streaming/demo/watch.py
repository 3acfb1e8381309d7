"""Page that shows an execution in a browser; all its files are served from here."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from fastapi import APIRouter, HTTPException, Request, Response

from lg_streaming.errors import BadRequestError
from lg_streaming.events import check_execution_id

_STATIC = files("lg_streaming") / "static"
_PAGE = Template((_STATIC / "watch.html").read_text(encoding="utf-8"))
_SCRIPTS = ("watch.js", "view.js", "run.js", "prompts.js", "controls.js", "dom.js")
_MEDIA_TYPES = {"watch.css": "text/css", **dict.fromkeys(_SCRIPTS, "text/javascript")}
_ASSETS = {name: (_STATIC / name).read_text(encoding="utf-8") for name in _MEDIA_TYPES}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def watch_router(*, prefix: str = "") -> APIRouter:
    """Return a router with ``GET {prefix}/watch/{execution_id}``: a page that shows the execution live.

    The page reads the execution with the gateway's `lg-streaming.js`, so `prefix` must be the gateway's
    (``settings.gateway.prefix``). The page holds no data: the gateway decides who may read an execution.
    """
    router = APIRouter(prefix=prefix, include_in_schema=False)

    @router.get("/watch/{execution_id:path}")
    async def page(execution_id: str, request: Request) -> Response:
        try:
            check_execution_id(execution_id)
        except BadRequestError as error:
            raise HTTPException(error.http_status, str(error)) from error
        base = f"{request.scope.get('root_path', '')}{prefix}"
        html = _PAGE.substitute(
            execution=escape(execution_id),
            gateway=escape(f"{base}/"),
            assets=escape(f"{base}/watch-assets"),
        )
        return Response(html, media_type="text/html", headers=_HEADERS)

    @router.get("/watch-assets/{name}")
    async def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404)
        return Response(_ASSETS[name], media_type=_MEDIA_TYPES[name], headers=_HEADERS)

    return router
