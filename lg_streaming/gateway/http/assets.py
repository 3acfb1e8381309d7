"""Routes of the JavaScript client: `GET /lg-streaming.js`, its parts, and its types."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from lg_streaming.gateway.http.endpoint import Endpoint

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from starlette.requests import Request
    from starlette.routing import Router

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext

__all__ = ["ASSETS", "Asset", "AssetSender", "Assets"]

_HEADERS: Final = {
    # Kept, and asked for again each time: the files belong together, and to this version of the server.
    "Cache-Control": "no-cache",
    # The same for everybody, and nothing secret: any page may import it, also one that is isolated from other origins.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
_MEDIA_TYPES: Final = {"js": "text/javascript", "css": "text/css", "ts": "application/typescript"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, and an etag that identifies its version."""

    content: bytes
    media_type: str
    etag: str
    """Weak, as the file may be compressed."""

    @classmethod
    def from_file(cls, file: Traversable) -> Asset:
        """Read a file of the package."""
        content = file.read_bytes()
        return cls(
            content, _MEDIA_TYPES[file.name.rpartition(".")[2]], f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        )


def _read() -> dict[str, Asset]:
    static = files("lg_streaming") / "static"
    found = {name: Asset.from_file(static / name) for name in ("lg-streaming.js", "lg-streaming.d.ts")}
    parts = sorted((static / "lg-streaming").iterdir(), key=lambda part: part.name)
    return {
        **found,
        **{
            f"lg-streaming/{part.name}": Asset.from_file(part) for part in parts if part.name.endswith((".js", ".d.ts"))
        },
    }


ASSETS: Final = MappingProxyType(_read())
"""All assets, by their path under `gateway.prefix` without the first slash."""


class Assets:
    """Routes of the assets.

    Args:
        context: Services that the routes share.
    """

    def __init__(self, context: HttpContext) -> None:
        self._context = context

    def add_routes(self, router: Router) -> None:
        """Add one route for each file to `router`."""
        prefix = self._context.gateway.settings.gateway.prefix
        router.routes += [
            Route(f"{prefix}/{path}", Endpoint(self._context, for_all_pages=True, GET=AssetSender(asset)))
            for path, asset in ASSETS.items()
        ]


class AssetSender:
    """Handler that answers with a file, or with 304 if the client has it.

    Args:
        asset: The file.
    """

    def __init__(self, asset: Asset) -> None:
        self._asset = asset

    async def __call__(self, request: Request, _peer: Peer) -> Response:
        """Answer one request."""
        headers = {**_HEADERS, "ETag": self._asset.etag}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if known & {"*", self._asset.etag.removeprefix("W/")}:
            return Response(status_code=304, headers=headers)
        return Response(self._asset.content, headers=headers, media_type=self._asset.media_type)
