"""The API's documentation: /openapi.json, and an interactive reference at /docs that works without a network."""

import json
import re
from pathlib import Path
from typing import Any

import litestar_offline_docs
import msgspec
from litestar import MediaType, Request, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.static_files import create_static_files_router

from app.errors import UnknownPath
from app.http.openapi.document import document
from app.http.openapi.transitions import as_html
from app.http.prepared_response import PreparedResponse
from app.http.route_options import RouteOptions

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Claims API</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/docs/static/swagger-ui.css">
  <link rel="stylesheet" href="/docs/page.css">
</head>
<body>
  <nav><a href="#transitions">Changes of a claim's status, by role</a></nav>
  <div id="reference"></div>
  <section id="transitions">
    <h2>Changes of a claim's status, by role</h2>
    <p>A change from (new) is the creation. Cells: yes, - (never), assigned (claims assigned to the caller), own (the provider's own
    claims). The role system is that of jobs.</p>
    {transitions}
  </section>
  <script src="/docs/static/swagger-ui-bundle.js"></script>
  <script src="/docs/start.js"></script>
</body>
</html>
"""
STYLE = """nav, #transitions { font-family: sans-serif; margin: 1rem auto; max-width: 1420px; padding: 0 20px; }
#transitions table { border-collapse: collapse; }
#transitions th, #transitions td { border: 1px solid #aaa; padding: 0.2rem 0.6rem; text-align: left; }
"""
START = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#reference", deepLinking: true, validatorUrl: null})
"""
"""A separate file, because the page's Content-Security-Policy forbids inline scripts. persistAuthorization stays off, so that a token is
dropped when the page is closed."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@get("/openapi.json", media_type=MediaType.JSON, options=RouteOptions(hidden=True, public=True))
async def openapi(request: Request[Any, Any, Any]) -> bytes:
    """Returns the OpenAPI document. It is built once, because it is expensive and needs no authentication."""
    state = request.app.state
    if "document" not in state:
        state.document = msgspec.json.encode(document(request.app))
    return bytes(state.document)


@get("/", options=RouteOptions(hidden=True, public=True))
async def root() -> Any:
    """Redirects to the reference."""
    return PreparedResponse(b"", 307, {"Location": "/docs", "Content-Length": "0"}).to_litestar()


@get("/docs", media_type=MediaType.HTML, options=RouteOptions(hidden=True, public=True))
async def docs(request: Request[Any, Any, Any]) -> str:
    """Returns the page of the interactive reference."""
    request.scope["state"]["answer_headers"]["Content-Security-Policy"] = POLICY
    return PAGE.replace("{transitions}", as_html())


@get("/docs/page.css", media_type="text/css", options=RouteOptions(hidden=True, public=True))
async def style() -> str:
    """Returns the style of the page around the reference."""
    return STYLE


@get("/docs/start.js", media_type="text/javascript", options=RouteOptions(hidden=True, public=True))
async def start() -> str:
    """Returns the script that initializes the reference."""
    return START


async def _check_name(request: Request[Any, Any, Any]) -> None:
    """Raises UnknownPath for an invalid file name. The system call would fail with another error for a NUL or a name that is too long."""
    if not re.fullmatch(r"[\w./-]{1,100}", str(request.path_params["file_path"]), re.ASCII):
        raise UnknownPath


assets = create_static_files_router(
    "/docs/static",
    [Path(litestar_offline_docs.__file__).parent / "static"],
    opt={"options": RouteOptions(public=True, hidden=True)},
    before_request=_check_name,
)
handlers: list[HTTPRouteHandler | Router] = [root, openapi, docs, style, start, assets]


def main() -> None:
    """`python -m app.http.openapi.docs`: prints the OpenAPI document, without a database."""
    from app.config import Settings
    from app.main import create_app

    app = create_app(Settings(api_database_url="postgresql:///", token_keys={"none": b""}))
    print(json.dumps(document(app), indent=1))


if __name__ == "__main__":
    main()
