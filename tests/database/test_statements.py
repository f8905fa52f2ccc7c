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


INSERTABLE = """select array_agg(distinct column_name::text) from information_schema.column_privileges
where table_schema = 'app' and table_name = %s and privilege_type = 'INSERT' and grantee = 'claims_admin'"""
"""The columns that an admin may insert."""


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_prepares(as_root, query):
    as_root.execute("set search_path = app")
    table = re.search(r"insert into (\w+)", query.source)
    columns = as_root.execute(INSERTABLE, [table[1]]).fetchone()[0] if table else None
    for given in ({}, dict.fromkeys(query.options, True) | {"status": "paid", "limit": 20}):
        text = query.text(given | {"columns": columns})
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


def test_only_words_are_names_of_columns():
    create = statements.load("claims").create
    assert "(patient_id, notes)\nvalues (%(patient_id)s, %(notes)s)" in create.text(
        {"columns": ["patient_id", "notes"]}
    )  # control
    with pytest.raises(ValueError, match="columns"):
        create.text({"columns": ["notes) values (null) --"]})


def write(folder, monkeypatch, text):
    """Makes the text the file of queries named things."""
    (folder / "things.sql").write_text(text)
    monkeypatch.setattr(statements, "QUERIES", folder)


FRAGMENT = "-- fragment: filters\n-- Shared.\nand t.a = :a -- if :a\nand t.b = :b -- if :b\n\n"
LIST = "-- name: list\nselect 1 from t\nwhere true\n-- use: filters\nlimit 1\n\n"
COUNT = "-- name: count\nselect count(*) from (\n    select from t\n    where true\n    -- use: filters\n) as counted\n"


def test_a_fragment_comes_where_it_is_used(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, LIST + FRAGMENT + COUNT)  # the order does not matter
    things = statements.Queries("things")
    assert things.list.options == things.count.options == {"a", "b"}
    assert things.list.text({"b": 1}) == "select 1 from t\nwhere true\nand t.b = %(b)s\nlimit 1"
    assert "    where true\n    and t.a = %(a)s\n) as" in things.count.text({"a": 1})
    assert set(things.all) == {"list", "count"}


@pytest.mark.parametrize(("text", "named"), [
    (LIST, "filters"), (FRAGMENT + "-- name: get\nselect 1\n", "filters"), (FRAGMENT.replace("filters", "filter") + LIST, "filter"),
    (FRAGMENT + FRAGMENT + LIST, "twice"), (FRAGMENT + "-- fragment: more\n-- use: filters\n" + LIST + "-- use: more\n", "another"),
], ids=["unknown", "unused", "misspelt", "twice", "nested"])  # fmt: skip
def test_an_unknown_or_unused_fragment_fails_at_load(tmp_path, monkeypatch, text, named):
    write(tmp_path, monkeypatch, FRAGMENT + LIST)
    assert statements.Queries("things").list  # control
    write(tmp_path, monkeypatch, text)
    with pytest.raises(ValueError, match=rf"things\.sql.*{named}"):
        statements.Queries("things")


LISTS = [query for query in QUERIES if "after" in query.options]


@pytest.mark.parametrize("query", LISTS, ids=lambda query: query.name)
def test_a_count_has_the_filters_of_its_list(query):
    count = statements.load(query.name.split(".")[0]).count
    assert len(LISTS) == 9
    assert count.options == query.options - {"after", "offset"}


def test_a_fault_in_a_query_is_found(as_root):
    with pytest.raises(psycopg.errors.UndefinedColumn):
        as_root.execute("prepare one as select no_such_column from app.claims")
