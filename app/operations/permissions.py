"""The permissions of a database as Markdown, from its live catalog (sql/PERMISSIONS.md, `make permissions`).

Reads DATABASE_URL, or without one a fresh database of its own. The facts are those of sql/operations/permissions.sql.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from textwrap import fill
from typing import Any

import psycopg
from psycopg.rows import dict_row

from app.database.schema_files import SQL
from app.operations.permissions_labels import ALL, ALL_OF_EVERYBODY, HEAD, RESTRICTIVE, WORDS

Row = dict[str, Any]
Facts = dict[str, list[Row]]
COMMANDS = ("select", "insert", "update", "delete")
OWN_SECTIONS = ("app", "auth", "context")
"""The schemas whose tables have a section each."""


def read(connection: psycopg.Connection[Any]) -> Facts:
    """The rows of each statement in sql/operations/permissions.sql, by its name; every table with its own rights and policies."""
    text = (SQL / "operations" / "permissions.sql").read_text()
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("set local search_path = app")  # how the catalog prints names depends on it
        statements = zip(parts[::2], parts[1::2], strict=True)
        facts = {name: cursor.execute(statement.encode()).fetchall() for name, statement in statements}
    for policy in facts["policies"]:
        policy |= {part: plain(policy[part]) for part in ("using", "check") if policy[part]}
    become = {role for member in facts["members"] if member["how"] == "may become" for role in member["roles"]}
    facts["rights"].sort(key=lambda right: (right["role"] not in become, right["role"]))
    for table in facts["tables"]:
        for kind in ("rights", "policies"):
            table[kind] = [
                one for one in facts[kind] if (one["schema"], one["table"]) == (table["schema"], table["table"])
            ]
        table["closed"] = [
            name for name in RESTRICTIVE if any(_is_restriction(policy, name) for policy in table["policies"])
        ]
    return facts


def plain(rule: str) -> str:
    """A rule as the catalog prints it, on one line and without the casts of its literals."""
    return re.sub(r"('[^']*')::text", r"\1", " ".join(rule.split())).replace("( SELECT", "(SELECT")


def _is_restriction(policy: Row, name: str) -> bool:
    """Whether it is that one of RESTRICTIVE: by name and by rule, for every command, `_tenant` to PUBLIC."""
    expected = (f"{policy['table']}_{name}", "restrictive", "all", *RESTRICTIVE[name][:2])
    whole = tuple(policy[part] for part in ("policy", "kind", "command", "using", "check")) == expected
    return whole and (name != "tenant" or _of_everybody(policy))


def _of_everybody(policy: Row) -> bool:
    return policy["roles"] == ["PUBLIC"]


def document(facts: Facts) -> str:
    """The whole of sql/PERMISSIONS.md."""
    tables = [table for table in facts["tables"] if table["schema"] in OWN_SECTIONS]
    parts = [HEAD, *_closed(tables), *_roles(facts, tables)]
    for table in tables:
        parts += _table(table)
    return "\n\n".join([*parts, *_elsewhere(facts), *_functions(facts)])


def _closed(tables: list[Row]) -> Iterator[str]:
    yield "## Closed for everybody"
    yield "Three restrictive policies hold for every command, whatever the others open:"
    yield _list(
        f"`<table>_{name}`: {words}. `using ({rule}){f' with check ({check})' if check else ''}`"
        for name, (rule, check, words) in RESTRICTIVE.items()
    )
    without = [_name(table) for table in tables if len(table["closed"]) < len(RESTRICTIVE)]
    yield _wrap(f"Every table has all three, but for {_and(without) or 'none'}.")
    for name in ("requires_context", "context"):
        some = [
            _name(table)
            for table in tables
            for policy in table["policies"]
            if _is_restriction(policy, name) and not _of_everybody(policy)
        ]
        yield _wrap(f"For some roles alone `_{name}` stands on {_and(some) or 'none'} (sql/audit/022 says why).")


def _roles(facts: Facts, tables: list[Row]) -> Iterator[str]:
    yield "## Roles"
    said_of = {"may become": "may become {}.", "has": "has all that {} has."}
    lines = [
        f"{one['role']}{' (a login)' if one['login'] else ''} {said_of[one['how']].format(_and(one['roles']))}"
        for one in facts["members"]
    ]
    for owner in sorted({table["owner"] for table in tables}):
        own = [table for table in tables if table["owner"] == owner]
        said = [f"{owner} owns {'every table' if own == tables else _and(map(_name, own))}."]
        if opened := [_name(table) for table in tables for policy in table["policies"] if owner in policy["roles"]]:
            said.append(f"Policies hold for it, too, and open to it {_and(dict.fromkeys(opened))} alone.")
        for lost in sorted({tuple(table["owner_may_not"]) for table in own if table["owner_may_not"]}):
            where = (_name(table) for table in own if tuple(table["owner_may_not"]) == lost)
            said.append(f"It has given up {_and(lost)} on {_and(where)}.")
        lines.append(" ".join(said))
    lines += [f"Into the schema {one['schema']} may look {_and(one['roles'])}." for one in facts["schemas"]]
    yield _list(lines)


def _table(table: Row) -> Iterator[str]:
    yield f"## {_name(table)}"
    yield _wrap(_said(table))
    if missing := [f"`_{one}`" for one in RESTRICTIVE if one not in table["closed"]]:
        why = "" if table["by_tenant"] else " Its rows belong to no organization."
        yield f"**Without {_and(missing)}.**{why}"
    if table["row_security"] != "forced":
        yield f"**Row-level security is {table['row_security']}.**"
    letters: dict[str, str] = {}
    rows = [
        [right["role"], *(_cell(table, right, command, letters) for command in COMMANDS)] for right in table["rights"]
    ]
    yield _grid(("role", *COMMANDS), rows)
    notes = [_wrap(f"({letter}) {columns}") for columns, letter in letters.items()]
    notes += [f"**{right['role']} may {right['more']}.**" for right in table["rights"] if right["more"]]
    if notes:
        yield "  \n".join(notes)
    own = [
        policy
        for policy in table["policies"]
        if not (_of_everybody(policy) and any(_is_restriction(policy, name) for name in RESTRICTIVE))
    ]
    if further := [
        one["policy"]
        for one in own
        if one["kind"] == "restrictive" and not any(_is_restriction(one, name) for name in RESTRICTIVE)
    ]:
        yield f"**Closed further by {_and(further)}.**"
    yield "\n".join(["```sql", *map(_sql, own), "```"])


def _said(table: Row) -> str:
    """The first sentence of the file that holds the table's policies, and which that is."""
    for path in sorted(SQL.glob("policies/*.sql")):
        text = path.read_text()
        if re.search(rf"schema_admin\.(isolate|close_table)\('{_name(table)}'", text):
            comment = takewhile(lambda line: line.startswith("--"), text.splitlines())
            said = " ".join(line.removeprefix("-- ") for line in comment).removeprefix(f"{table['table']}: ")
            return f"{said[0].upper()}{re.split(r'(?<=[.]) ', said[1:])[0]} ([{path.name}]({path.relative_to(SQL)}))"
    return "**No file says why.**"


def _cell(table: Row, right: Row, command: str, letters: dict[str, str]) -> str:
    """Which rows, and a letter for which columns."""
    if not right[command]:
        return "-"
    opens = [
        _words(table, policy, command)
        for policy in table["policies"]
        if policy["kind"] == "permissive"
        and policy["command"] in (command, "all")
        and not {right["role"], "PUBLIC"}.isdisjoint(policy["roles"])
    ]
    said = "; or ".join(dict.fromkeys(opens)) or "nothing: no policy"
    if table["row_security"] == "off":
        said = "all, unasked"
    letter = letters.setdefault(right[command], chr(ord("a") + len(letters))) if right[command] != "all" else None
    return f"{said} ({letter})" if letter else said


def _words(table: Row, policy: Row, command: str) -> str:
    every = ALL if "tenant" in table["closed"] or not table["by_tenant"] else ALL_OF_EVERYBODY
    words = {"true": every} | WORDS
    before, after = (words.get(rule, f"`{rule}`") for rule in (policy["using"], policy["check"] or policy["using"]))
    if command == "update" and before != after:
        return f"{before}; with check {after}"
    return after if command == "insert" else before


def _sql(policy: Row) -> str:
    closing = " as restrictive" if policy["kind"] == "restrictive" else ""
    lines = [f"{policy['policy']}{closing} for {policy['command']} to {_and(policy['roles'])}"]
    lines += [f"using ({policy['using']})"] if policy["using"] else []
    lines += [f"with check ({policy['check']})"] if policy["check"] else []
    if len(line := " ".join(lines)) <= 120:
        return line
    return "\n".join([_wrap(lines[0], "        "), *(_wrap(f"    {line}", "        ") for line in lines[1:])])


def _elsewhere(facts: Facts) -> Iterator[str]:
    """What has no section of its own, by role."""
    yield "## The queue, and what the schema step keeps"
    lines = []
    for name in sorted({one["schema"] for one in facts["schemas"]} - {*OWN_SECTIONS}):
        tables, rights, functions = (
            [one for one in facts[kind] if one["schema"] == name] for kind in ("tables", "rights", "functions")
        )
        for role in sorted({one["role"] for one in rights} | {role for one in functions for role in one["roles"]}):
            on: dict[str, list[str]] = {}
            for right in (one for one in rights if one["role"] == role):
                on.setdefault(_may(right), []).append(right["table"])
            said = [f"{may} on {'all tables' if len(on_) == len(tables) else _and(on_)}" for may, on_ in on.items()]
            if mine := [one["function"] for one in functions if role in one["roles"]]:
                said.append(f"execute {'all functions' if 1 < len(mine) == len(functions) else _and(mine)}")
            lines.append(f"{name}: {role} may {'; '.join(said)}.")
    yield _list(lines)


def _may(right: Row) -> str:
    given = [(command, right[command]) for command in COMMANDS if right[command]]
    may = [command if columns == "all" else f"{command} ({columns})" for command, columns in given]
    return _and([*may, right["more"]] if right["more"] else may)


def _functions(facts: Facts) -> Iterator[str]:
    yield "## Functions"
    yield "Who may execute what, and as whom it runs where that is not the caller. A trigger's can't be called."
    found: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for one in facts["functions"]:
        if one["schema"] in OWN_SECTIONS:
            roles = ("PUBLIC",) if "PUBLIC" in one["roles"] else tuple(one["roles"])
            said = f"{one['schema']}.{one['function']}" + (f" ({one['comment']})" if one["comment"] else "")
            found.setdefault(roles, {}).setdefault(one["runs as"] or "", []).append(said)
    for roles, owners in sorted(found.items()):
        yield _wrap(f"**{_and(roles)}**")
        yield _list((f"as {owner}: " if owner else "") + _and(owners[owner]) for owner in sorted(owners))


def _name(table: Row) -> str:
    return f"{table['schema']}.{table['table']}"


def _and(names: Iterable[str]) -> str:
    return ", ".join(names)


def _wrap(text: str, indent: str = "") -> str:
    return fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(_wrap(f"- {line}", "  ") for line in lines)


def _grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)
