"""Imports between packages are one-way: each package imports only those of ALLOWED."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "errors": set(),
    "backoff": set(),
    "security": {"errors"},
    "config": {"security"},
    "database": {"backoff", "config", "errors", "security"},
    "http": {"config", "database", "errors", "security"},
    "resources": {"database", "errors", "http", "security"},
    "main": {"config", "database", "errors", "http", "resources"},
    "server": {"backoff", "errors", "http", "security"},
    "__main__": {"config", "security", "server"},
    "operations": {"config", "database"},
    "dev": {"config", "operations", "security", "server"},
    "jobs": {"backoff", "config", "database", "errors", "server"},
}
"""Packages and modules of app, and jobs: what each may import of the others."""
EXCEPTIONS = {("app.http.openapi.docs", "app.main")}
"""Imports of a command that is part of a lower package: it creates the application to print its document."""


def package(module: str) -> str | None:
    """The package of ALLOWED that a module belongs to; None for modules that are not ours."""
    top, *rest = module.split(".")
    return {"app": rest[0] if rest else None, "jobs": "jobs"}.get(top)


def imports(source: str) -> set[str]:
    """Names of the modules that a file imports, inside functions as well."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "app":
            found |= {f"app.{name.name}" for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def violations(module: str, source: str) -> set[str]:
    """Imports of a module that ALLOWED does not contain."""
    own = package(module)
    allowed = ALLOWED[own] | {own, None}
    return {name for name in imports(source) if package(name) not in allowed and (module, name) not in EXCEPTIONS}


FILES = sorted(path for folder in ("app", "jobs") for path in (ROOT / folder).rglob("*.py") if path.read_text().strip())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_imports_only_those_below_it(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert violations(module, path.read_text()) == set()


def test_no_two_packages_import_each_other():
    order = list(TopologicalSorter(ALLOWED).static_order())
    assert set(order) == set(ALLOWED)


@pytest.mark.parametrize(
    "source", ["from app.http import denied", "import app.resources.claims", "from app import main"]
)
def test_an_import_from_above_is_found(source):
    assert len(violations("app.database.pool", source)) == 1
