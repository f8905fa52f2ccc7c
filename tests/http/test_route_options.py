"""Options of routes: a misspelt one is noticed, and each route has the options that its path needs."""

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from app.config import Settings
from app.http.route_options import RouteOptions, options_of, resource_of
from app.main import create_app
from app.resources import RESOURCES

MODULE = """
from litestar import get
from app.http.route_options import RouteOptions

@get("/api/things", options=RouteOptions({option}=True))
async def list_things() -> None: ...
"""


@pytest.fixture(scope="module")
def app() -> Litestar:
    return create_app(Settings(api_database_url="postgresql:///", token_keys={"test": b"0" * 32}))


def handlers(app: Litestar):
    return [handler for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers]


def test_a_misspelt_option_fails_at_import():
    exec(compile(MODULE.format(option="audit_read"), "things", "exec"), {"__name__": "things"})  # control
    with pytest.raises(TypeError, match="audit_raed"):
        exec(compile(MODULE.format(option="audit_raed"), "things", "exec"), {"__name__": "things"})


def test_no_route_has_an_option_beside_its_route_options(app):
    """Litestar keeps unknown keywords of a decorator in `opt`, so `optoins=...` would have no effect."""
    for handler in handlers(app):
        if "OPTIONS" not in handler.http_methods:
            assert set(handler.opt) <= {"options"}, handler
            assert isinstance(options_of(handler), RouteOptions)


def test_every_route_belongs_to_a_resource_or_is_hidden(app):
    found = {resource_of(handler) for handler in handlers(app) if not options_of(handler).hidden and handler.opt}
    assert found <= set(RESOURCES)
    assert "claims" in found  # control
