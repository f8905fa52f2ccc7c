"""The architecture, held by reading the code: imports run one way, and nothing but db speaks to the database."""

import ast
from pathlib import Path

import msgspec
import pytest
import yaml

from app.config import Settings
from app.main import RESOURCES

ROOT = Path(__file__).parents[2]
RESOURCES = [name for name in RESOURCES if name != "health"]


def module(resource: str) -> Path:
    """The file of the resource's handlers."""
    folder = ROOT / "app" / "resources"
    return folder / resource / "routes.py" if (folder / resource).is_dir() else folder / f"{resource}.py"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_imports_no_other_and_no_driver(resource):
    found = imports(module(resource))
    assert found.isdisjoint(
        {f"app.resources.{other}" for other in RESOURCES} - {f"app.resources.{resource}"}
        | {"psycopg", "psycopg_pool", "os", "app.operations"}
    )


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.stem)
def test_a_job_imports_no_resource_and_no_framework(path):
    found = imports(path)
    assert found.isdisjoint({f"app.resources.{resource}" for resource in RESOURCES})
    assert not any(name.startswith("litestar") for name in found)


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_holds_no_sql_and_takes_no_tenant(resource):
    text = module(resource).read_text().lower()
    assert not any(word in text for word in ("select ", "insert into", "update set", "delete from", "set_config"))
    tree = ast.parse(text)
    arguments = {
        argument.arg for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) for argument in node.args.args
    }
    assert "organization_id" not in arguments


def test_policies_and_grants_stand_in_policy_files_alone():
    for path in (ROOT / "migrations").glob("*.sql"):
        assert "create policy" not in path.read_text()
    tables = {path.stem for path in (ROOT / "sql" / "policies").glob("*.sql")}
    made = {line.split()[2] for path in (ROOT / "migrations").glob("*.sql") for line in path.read_text().splitlines()
            if line.startswith("create table") and "auth." not in line and "context." not in line}  # fmt: skip
    assert tables == made | {"auth", "context"}


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_has_one_word_in_every_folder(resource):
    assert (ROOT / "sql" / "queries" / f"{resource}.sql").exists()


def test_handlers_are_short():
    for resource in RESOURCES:
        for node in ast.walk(ast.parse(module(resource).read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list:
                lines = node.end_lineno - node.lineno + 1
                assert 2 <= lines <= 15, (resource, node.name, lines)


def test_every_migration_can_be_rolled_back():
    files = {path.name for path in (ROOT / "migrations").glob("*.sql")}
    assert {name.replace(".sql", ".rollback.sql") for name in files if ".rollback." not in name} <= files


def test_compose_tells_every_process_what_it_needs():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    known = {field.name.upper() for field in msgspec.structs.fields(Settings)} | {"PROCRASTINATE_APP"}
    needs = {
        "schema": {"DATABASE_URL"},
        "api": {"API_DATABASE_URL", "TOKEN_KEYS"},
        "worker": {"WORKER_DATABASE_URL", "PROCRASTINATE_APP"},
    }
    for name, needed in needs.items():
        assert needed <= set(services[name]["environment"]) <= known
    assert services["postgres"]["image"] == "postgres:18"
    assert services["worker"]["command"] == ["procrastinate", "worker"]
    assert "DATABASE_URL" not in services["api"]["environment"]  # the administrator's login stays with the schema step
