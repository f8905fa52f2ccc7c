"""The hand-written statements: each fits the schema, none has a parameter for the tenant, and each is used."""

import re
from pathlib import Path

import psycopg
import pytest

from app.database import statements

ROOT = Path(__file__).parents[2]
QUERIES = [
    query for path in sorted(statements.QUERIES.glob("*.sql")) for query in statements.load(path.stem).all.values()
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_prepares(as_root, query):
    as_root.execute("set search_path = app")
    for given in ({}, dict.fromkeys(query.options, True) | {"status": "paid", "limit": 20}):
        text = query.text(given)
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
        for number, name in enumerate(names, 1):
            text = text.replace(f"%({name})s", f"${number}")
        as_root.execute(f"prepare one as {text.replace('%%', '%')}".encode())
        as_root.execute("deallocate one")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_no_statement_has_a_parameter_for_the_tenant(query):
    assert not re.search(r":organization_id\b", query.source)
    assert "select *" not in query.source


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_is_used(query):
    code = "".join(path.read_text() for folder in ("app", "jobs") for path in (ROOT / folder).rglob("*.py"))
    assert f"queries.{query.name.split('.')[1]}" in code


@pytest.mark.parametrize("value", ["paid' or true --", "", "Paid", True, 1.5, ["paid"]])
def test_only_integers_and_words_are_written_into_the_text(value):
    assert "= 'paid'" in statements.load("claims").count.text({"status": "paid"})  # control
    with pytest.raises(ValueError, match="written out"):
        statements.load("claims").count.text({"status": value})


def test_a_fault_in_a_query_is_found(as_root):
    with pytest.raises(psycopg.errors.UndefinedColumn):
        as_root.execute("prepare one as select no_such_column from app.claims")
