"""The API's own description: /openapi.json, and an interactive reference at /docs that works without a network."""

from pathlib import Path
from typing import Any

import litestar_offline_docs
from litestar import MediaType, Request, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.static_files import create_static_files_router

from app.openapi import document

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Claims API</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/docs/static/swagger-ui.css">
</head>
<body>
  <div id="reference"></div>
  <script src="/docs/static/swagger-ui-bundle.js"></script>
  <script>
    SwaggerUIBundle({url: "/openapi.json", dom_id: "#reference", deepLinking: true, persistAuthorization: true})
  </script>
</body>
</html>
"""


@get("/openapi.json", hidden=True, public=True)
async def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The OpenAPI document."""
    return document(request.app)


@get("/docs", media_type=MediaType.HTML, hidden=True, public=True)
async def docs() -> str:
    """The interactive reference."""
    return PAGE


assets = create_static_files_router(
    "/docs/static",
    [Path(litestar_offline_docs.__file__).parent / "static"],
    opt={"public": True, "hidden": True},
)
handlers: list[HTTPRouteHandler | Router] = [openapi, docs, assets]
