"""sql/TABLES.md compared with the catalog: the diagram, the triggers in firing order, and a line on growth for every table."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "sql" / "TABLES.md"
TABLES = """
select c.oid, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname in ('app', 'auth', 'context', 'procrastinate')"""
DIAGRAM = f"""
with ours as ({TABLES} and n.nspname <> 'procrastinate'),
key as (
    select k.conrelid, k.confrelid, k.conkey,
           (select bool_and(a.attnotnull) from pg_attribute a where a.attrelid = k.conrelid and a.attnum = any (k.conkey)) as required,
           exists (select from pg_index i where i.indrelid = k.conrelid and i.indisunique and i.indpred is null
                   and i.indkey::smallint[] <@ k.conkey) as at_most_one,
           (select string_agg(a.attname, ', ' order by a.attname) from pg_attribute a
            where a.attrelid = k.conrelid and a.attnum = any (k.conkey)
              and (a.attname <> 'organization_id' or cardinality(k.conkey) = 1)) as columns
    from pg_constraint k where k.contype = 'f'
)
select format('    %s %s--%s %s : "%s"', parent.relname, case when k.required then '||' else '|o' end,
              case when k.at_most_one then 'o|' else 'o{{' end, child.relname, k.columns)
from key k join ours parent on parent.oid = k.confrelid join ours child on child.oid = k.conrelid
union all
select '    ' || o.relname from ours o where not exists (select from key k where o.oid in (k.conrelid, k.confrelid))"""
"""The lines of the diagram: each foreign key, and each table without one."""
TRIGGERS = f"""
with ours as ({TABLES} and n.nspname <> 'procrastinate')
select o.relname, t.tgname, case when t.tgtype & 2 > 0 then 'before ' else 'after ' end || concat_ws(', ',
           case when t.tgtype & 4 > 0 then 'insert' end,
           case when t.tgtype & 16 > 0 then 'update' || coalesce(' of ' || (
               select string_agg(a.attname, ', ' order by a.attnum) from pg_attribute a
               where a.attrelid = t.tgrelid and a.attnum = any (t.tgattr::smallint[])), '') end,
           case when t.tgtype & 8 > 0 then 'delete' end)
from pg_trigger t join ours o on o.oid = t.tgrelid
where not t.tgisinternal
order by o.relname, t.tgtype & 2 desc, t.tgname"""
"""Triggers of each table in the order in which they fire."""


def section(title: str) -> str:
    """The text of a section of the page."""
    return PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of a Markdown table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_diagram_has_every_table_and_foreign_key(as_root):
    (block,) = re.findall(r"```mermaid\nerDiagram\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    expected = [line for (line,) in as_root.execute(DIAGRAM).fetchall()]
    assert len(expected) > 30
    assert sorted(block.splitlines()) == sorted(expected)


def test_the_triggers_are_those_of_the_catalog_in_firing_order(as_root):
    expected = as_root.execute(TRIGGERS).fetchall()
    assert len(expected) > 20
    assert [tuple(cell.strip("`") for cell in row[:3]) for row in rows(section("Triggers"))] == expected


def test_every_trigger_fires_for_each_row(as_root):
    query = f"with ours as ({TABLES}) select distinct t.tgtype & 1 from pg_trigger t join ours o on o.oid = t.tgrelid"
    assert as_root.execute(f"{query} where o.nspname <> 'procrastinate'").fetchall() == [(1,)]


def test_every_table_has_a_line_on_growth(as_root):
    expected = {f"{schema}.{name}" for _, schema, name in as_root.execute(TABLES).fetchall()}
    named = [name for row in rows(section("Growth and retention")) for name in re.findall(r"`(\w+\.\w+)`", row[0])]
    assert len(named) == len(set(named))
    assert set(named) == expected
