"""The Litestar application: resources, middleware, dependencies, error handler, lifespan."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import import_module

from litestar import Litestar
from litestar.di import Provide

from app.config import Settings, read_settings
from app.database.key_check import check_context_key
from app.database.pool import Pool, api_pool
from app.database.schema_check import check_database
from app.database.server_version import UnsafeDatabase
from app.errors import Unavailable
from app.http.concurrency import ConcurrencyLimit
from app.http.dependencies import init_app_state, provide_anonymous, provide_db
from app.http.error_handler import handle_error
from app.http.middleware import BodyMiddleware, OuterMiddleware, RequestMiddleware
from app.http.openapi import docs
from app.http.spool import Disk
from app.resources import RESOURCES

log = logging.getLogger("claims.api")

MAX_BODY_BYTES = 1_000_000


@asynccontextmanager
async def _lifespan(settings: Settings, app: Litestar) -> AsyncIterator[None]:
    pool = api_pool(settings)
    try:
        with _log_startup_error(pool):
            await pool.open()
            init_app_state(app.state, settings, pool)
            app.state.disk = Disk(settings.import_disk)
            await check_database(pool.fetch)
            await check_context_key(pool.fetch, app.state.signer)
        yield
    finally:
        await pool.close()


@contextmanager
def _log_startup_error(pool: Pool) -> Iterator[None]:
    """Logs why the process cannot start. Disables uvicorn's error log, because it would add a traceback."""
    try:
        yield
    except (UnsafeDatabase, Unavailable) as error:
        log.critical("the API can't start: %s", f"the database {pool.problem}" if pool.problem else error)
        logging.getLogger("uvicorn.error").disabled = True
        raise


def create_app(settings: Settings | None = None) -> Litestar:
    """Creates the application. Without settings, reads them from the environment."""
    settings = settings or read_settings(need=("api_database_url", "token_keys"))
    app = Litestar(
        route_handlers=[
            *(handler for name in RESOURCES for handler in import_module(f"app.resources.{name}").handlers),
            *docs.handlers,
        ],
        dependencies={"db": Provide(provide_db), "anonymous": Provide(provide_anonymous)},
        middleware=[RequestMiddleware(settings.token_keys), BodyMiddleware(), ConcurrencyLimit()],
        exception_handlers={Exception: handle_error},
        lifespan=[partial(_lifespan, settings)],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    # Not in `middleware`, because Litestar runs no middleware for unknown paths.
    app.asgi_handler = OuterMiddleware(app.asgi_handler, settings.trusted_proxies)
    return app
