"""Routes of the watch page: `GET /watch/`, `GET /watch/{execution_id}`, and the files that the pages load."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from lg_streaming.gateway.hooks.listeners import WATCH_ROUTE
from lg_streaming.gateway.http.assets import Asset, AssetSender
from lg_streaming.gateway.http.endpoint import Endpoint, execution_id_of
from lg_streaming.gateway.watch.login import SESSION_PATH, PageLogin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from starlette.requests import Request
    from starlette.routing import Router

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext

__all__ = ["WATCH_PATHS", "WatchPages"]

WATCH_PATHS: Final = ("/watch", "/watch-assets", SESSION_PATH)
"""Paths of the pages, their files and their login, below `gateway.prefix`."""
_STATIC: Final = files("lg_streaming") / "static" / "watch"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _read(folder: Traversable, path: str = "") -> Iterator[tuple[str, Asset]]:
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.is_dir():
            yield from _read(file, f"{path}{file.name}/")
        elif file.name.endswith((".js", ".css")):
            yield f"{path}{file.name}", Asset.from_file(file)


_ASSETS: Final = MappingProxyType(dict(_read(_STATIC)))
_LIST: Final = Template((_STATIC / "list.html").read_text(encoding="utf-8"))
_RUN: Final = Template((_STATIC / "run.html").read_text(encoding="utf-8"))


class WatchPages:
    """Routes of the watch page.

    A page holds no data, so anybody may load it. Its script reads the gateway's routes, which decide about rights.

    Args:
        context: Services that the routes share.
    """

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._prefix = context.gateway.settings.gateway.prefix

    def add_routes(self, router: Router) -> None:
        """Add the routes to `router`."""
        context, prefix = self._context, self._prefix
        PageLogin(context).add_routes(router)
        router.routes += [
            *(
                Route(f"{prefix}/watch-assets/{path}", Endpoint(context, for_all_pages=True, GET=AssetSender(asset)))
                for path, asset in _ASSETS.items()
            ),
            Route(f"{prefix}/watch", Endpoint(context, for_all_pages=True, GET=self._to_list)),
            Route(f"{prefix}/watch/", Endpoint(context, for_all_pages=True, GET=self._list_page), name=WATCH_ROUTE),
            Route(
                f"{prefix}/watch/{{execution_id:lg_execution_id}}",
                Endpoint(context, for_all_pages=True, GET=self._run_page),
            ),
        ]

    async def _to_list(self, request: Request, _peer: Peer) -> Response:
        return RedirectResponse(f"{self._base(request)}/watch/", status_code=307)

    async def _list_page(self, request: Request, _peer: Peer) -> Response:
        return self._page(_LIST, request)

    async def _run_page(self, request: Request, _peer: Peer) -> Response:
        return self._page(_RUN, request, execution=execution_id_of(request))

    def _page(self, template: Template, request: Request, **values: str) -> Response:
        base = self._base(request)
        html = template.substitute(
            gateway=escape(f"{base}/"),
            watch=escape(f"{base}/watch/"),
            assets=escape(f"{base}/watch-assets"),
            **{name: escape(value) for name, value in values.items()},
        )
        return Response(html, media_type="text/html", headers=_PAGE_HEADERS)

    def _base(self, request: Request) -> str:
        return f"{request.scope.get('root_path', '')}{self._prefix}"
