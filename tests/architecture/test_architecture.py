"""Rules of the architecture, checked in the source: no SQL in handlers, policies in their files, short handlers, rollbacks."""

import ast
from pathlib import Path

import msgspec
import pytest
import yaml

from app.config import Settings
from app.resources import RESOURCES as ALL_RESOURCES

ROOT = Path(__file__).parents[2]
RESOURCES = [name for name in ALL_RESOURCES if name != "health"]


def module(resource: str) -> Path:
    """The file of the resource's handlers."""
    folder = ROOT / "app" / "resources"
    return folder / resource / "routes.py" if (folder / resource).is_dir() else folder / f"{resource}.py"


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_contains_no_sql_and_no_parameter_for_the_tenant(resource):
    text = module(resource).read_text().lower()
    assert not any(word in text for word in ("select ", "insert into", "update set", "delete from", "set_config"))
    tree = ast.parse(text)
    arguments = {
        argument.arg for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) for argument in node.args.args
    }
    assert "organization_id" not in arguments


def test_policies_are_in_policy_files_alone():
    for path in (ROOT / "migrations").glob("*.sql"):
        assert "create policy" not in path.read_text()
    tables = {path.stem for path in (ROOT / "sql" / "policies").glob("*.sql")}
    created = {line.split()[2] for path in (ROOT / "migrations").glob("*.sql") for line in path.read_text().splitlines()
            if line.startswith("create table") and "auth." not in line and "context." not in line}  # fmt: skip
    assert tables == created | {"auth", "context"}


def test_handlers_are_short():
    for resource in RESOURCES:
        for node in ast.walk(ast.parse(module(resource).read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list:
                text = node.body[0]  # the docstring describes the operation to clients, so its length is free
                lines = node.end_lineno - node.lineno + 1 - (text.end_lineno - text.lineno + 1)
                assert ast.get_docstring(node), (resource, node.name)
                assert 2 <= lines <= 14, (resource, node.name, lines)


def test_every_migration_can_be_rolled_back():
    files = {path.name for path in (ROOT / "migrations").glob("*.sql")}
    assert {name.replace(".sql", ".rollback.sql") for name in files if ".rollback." not in name} <= files


def test_compose_sets_the_variables_of_every_process():
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
