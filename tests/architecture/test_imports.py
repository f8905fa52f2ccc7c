"""Import contracts: packages import in one direction, resources import no other resource, libraries stay in their layer.

Imports are read from the source, so an import inside a function counts, too.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = {"app.backoff", "app.errors", "app.vocabulary"}
LAYERS = {
    **{name: set() for name in BASE},
    "app.security": BASE,
    "app.config": BASE | {"app.security"},
    "app.database": BASE | {"app.security", "app.config"},
    "app.http": BASE | {"app.security", "app.config", "app.database"},
    "app.resources": BASE | {"app.security", "app.config", "app.database", "app.http"},
    "app.main": BASE | {"app.security", "app.config", "app.database", "app.http", "app.resources"},
    "app.server": BASE | {"app.security", "app.config", "app.http"},
    "app.__main__": BASE | {"app.security", "app.config", "app.server"},
    "app.operations": BASE | {"app.security", "app.config", "app.database"},
    "app.dev": BASE | {"app.security", "app.config", "app.database", "app.http", "app.server", "app.operations", "app.main"},
    "jobs": BASE | {"app.config", "app.database", "app.server.supervisor"},
}  # fmt: skip
"""The packages and modules that each package may import."""
LIBRARIES = {
    "litestar": {"app.http", "app.resources", "app.main"},
    "uvicorn": {"app.server", "app.__main__"},
    "psycopg": {"app.database", "app.errors", "app.http", "app.operations", "app.dev", "jobs"},
    "psycopg_pool": {"jobs"},
    "procrastinate": {"app.operations", "jobs"},
    "os": {"app.config", "app.server", "app.security", "app.operations", "app.dev", "app.__main__", "jobs"},
}
"""The packages that may import a library. Any package may import one that is not listed."""
SHARED = {"app.resources.job_results"}
"""Modules of app.resources that several resources use."""
EXCEPTIONS = {
    ("app.http.openapi.docs", "app.main"),  # its main() prints the document of the whole application
    ("app.resources.health", "psycopg"),  # catches any error of the database as "not ready"
}


def package(module: str) -> str:
    """The key of LAYERS for a module."""
    return "jobs" if module.split(".")[0] == "jobs" else ".".join(module.split(".")[:2])


def imports(source: str) -> set[str]:
    """The dotted names that the source imports, functions included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def violations(module: str, source: str) -> Iterator[tuple[str, str]]:
    """(module, imported package or module) for each import that a contract forbids."""
    own = package(module)
    for name in imports(source):
        top = name.split(".")[0]
        if top in LIBRARIES and own not in LIBRARIES[top]:
            yield module, top
        if top not in ("app", "jobs"):
            continue
        if package(name) != own and not any(is_within(name, allowed) for allowed in LAYERS[own]):
            yield module, package(name)
        if own == package(name) == "app.resources" and not any(is_within(name, shared) for shared in SHARED):
            resource = ".".join(name.split(".")[:3])
            if resource != ".".join(module.split(".")[:3]):
                yield module, resource


def modules() -> dict[str, str]:
    """The source of each module of the product, by its dotted name."""
    paths = [path for top in ("app", "jobs") for path in sorted((ROOT / top).rglob("*.py"))]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return {name: path.read_text() for name, path in zip(names, paths, strict=True)}


def test_imports_follow_the_contracts():
    assert {found for name, source in modules().items() for found in violations(name, source)} == EXCEPTIONS


@pytest.mark.parametrize(
    ("module", "source", "forbidden"),
    [
        ("app.errors", "from app.config import Settings", "app.config"),
        ("app.security.tokens", "from app.database.pool import Pool", "app.database"),
        ("app.config", "import app.database.pool", "app.database"),
        ("app.database.pool", "from app.http.envelope import Envelope", "app.http"),
        ("app.database.pool", "from litestar import Request", "litestar"),
        ("app.http.responses", "def f():\n    from app.resources import claims", "app.resources"),
        ("app.http.responses", "from app import resources", "app.resources"),
        ("app.resources.users", "from app.resources.claims import schemas", "app.resources.claims"),
        ("app.resources.claims.routes", "from app.resources import users", "app.resources.users"),
        ("app.resources.users", "import psycopg.errors", "psycopg"),
        ("app.resources.users", "import os", "os"),
        ("app.resources.users", "from app.operations.migrate import apply", "app.operations"),
        ("app.main", "from app.dev.postgres import Embedded", "app.dev"),
        ("app.server.limits", "from app.resources import claims", "app.resources"),
        ("app.operations.migrate", "from app.http import schemas", "app.http"),
        ("app.operations.psql", "from app.dev.postgres import binaries", "app.dev"),
        ("app.database.pool", "import psycopg_pool", "psycopg_pool"),
        ("jobs.worker", "from app.server.graceful import GracefulServer", "app.server"),
        ("jobs.execution", "from app.resources.job_results import JobResult", "app.resources"),
        ("jobs.execution", "import litestar", "litestar"),
        ("jobs.execution", "from app.dev.seed import seed_demo_data", "app.dev"),
    ],
)
def test_a_forbidden_import_is_found(module, source, forbidden):
    assert list(violations(module, source)) == [(module, forbidden)]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("app.resources.claims.routes", "from app.resources.claims.schemas import Claim"),
        ("app.resources.users", "from app.resources.job_results import JobResult"),
        ("app.http.responses", "from app.database.session import DatabaseSession"),
        ("jobs.__main__", "from app.server.supervisor import supervise"),
        ("jobs.worker", "from psycopg_pool import AsyncConnectionPool"),
        ("app.dev.run", "from app.operations import migrate"),
    ],
)
def test_an_allowed_import_is_not_reported(module, source):
    assert list(violations(module, source)) == []


def test_every_package_has_a_contract():
    assert {package(name) for name in modules()} - {"app"} <= LAYERS.keys()


def test_the_contracts_have_no_cycle():
    """A package imports packages of lower layers only."""
    graph = {name: {package(allowed) for allowed in layers} for name, layers in LAYERS.items()}
    assert list(TopologicalSorter(graph).static_order())
