"""The permissions of a database as Markdown, read from its catalog (sql/PERMISSIONS.md, `make permissions`).

sql/operations/permissions.sql reads the facts. app/dev/permissions.py prints the document.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from textwrap import fill
from typing import Any

import psycopg
from psycopg.rows import dict_row

from app.database.schema_files import SQL
from app.operations.permissions_labels import ALL, ALL_ORGANIZATIONS, HEAD, LABELS, RESTRICTIVE

Row = dict[str, Any]
Facts = dict[str, list[Row]]
COMMANDS = ("select", "insert", "update", "delete")
OWN_SECTIONS = ("app", "auth", "context")
"""The schemas whose tables have their own sections."""


def read(connection: psycopg.Connection[Any]) -> Facts:
    """The rows of each statement in sql/operations/permissions.sql, by its name. Each table includes its rights and policies."""
    text = (SQL / "operations" / "permissions.sql").read_text()
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("set local search_path = app")  # determines how the catalog prints names
        statements = zip(parts[::2], parts[1::2], strict=True)
        facts = {name: cursor.execute(statement.encode()).fetchall() for name, statement in statements}
    for policy in facts["policies"]:
        policy |= {part: plain(policy[part]) for part in ("using", "check") if policy[part]}
    become = {role for member in facts["members"] if member["how"] == "may become" for role in member["roles"]}
    facts["rights"].sort(key=lambda right: (right["role"] not in become, right["role"]))
    for table in facts["tables"]:
        for kind in ("rights", "policies"):
            table[kind] = [
                fact for fact in facts[kind] if (fact["schema"], fact["table"]) == (table["schema"], table["table"])
            ]
        table["closed"] = [
            name for name in RESTRICTIVE if any(_is_restriction(policy, name) for policy in table["policies"])
        ]
    return facts


def plain(rule: str) -> str:
    """A rule of the catalog on one line, without the casts of its literals."""
    return re.sub(r"('[^']*')::text", r"\1", " ".join(rule.split())).replace("( SELECT", "(SELECT")


def _is_restriction(policy: Row, name: str) -> bool:
    """Whether the policy is the restrictive one of that name: its name, rule and commands match, and `_tenant` applies to PUBLIC."""
    expected = (f"{policy['table']}_{name}", "restrictive", "all", *RESTRICTIVE[name][:2])
    matches = tuple(policy[part] for part in ("policy", "kind", "command", "using", "check")) == expected
    return matches and (name != "tenant" or _is_public(policy))


def _is_public(policy: Row) -> bool:
    return policy["roles"] == ["PUBLIC"]


def document(facts: Facts) -> str:
    """The text of sql/PERMISSIONS.md."""
    tables = [table for table in facts["tables"] if table["schema"] in OWN_SECTIONS]
    parts = [HEAD, *_closed(tables), *_roles(facts, tables)]
    for table in tables:
        parts += _table(table)
    return "\n\n".join([*parts, *_elsewhere(facts), *_functions(facts)])


def _closed(tables: list[Row]) -> Iterator[str]:
    yield "## Restrictive policies"
    yield "Three restrictive policies apply to every command, in addition to the permissive policies:"
    yield _list(
        f"`<table>_{name}`: {label}. `using ({rule}){f' with check ({check})' if check else ''}`"
        for name, (rule, check, label) in RESTRICTIVE.items()
    )
    without = [_name(table) for table in tables if len(table["closed"]) < len(RESTRICTIVE)]
    yield _wrap(f"Tables without all three: {_join(without) or 'none'}.")
    for name in ("requires_context", "context"):
        limited = [
            _name(table)
            for table in tables
            for policy in table["policies"]
            if _is_restriction(policy, name) and not _is_public(policy)
        ]
        yield _wrap(
            f"Tables where `_{name}` applies only to some roles: {_join(limited) or 'none'} (reason: sql/audit/022)."
        )


def _roles(facts: Facts, tables: list[Row]) -> Iterator[str]:
    yield "## Roles"
    texts = {"may become": "may become {}.", "has": "has all rights of {}."}
    lines = [
        f"{member['role']}{' (a login)' if member['login'] else ''} {texts[member['how']].format(_join(member['roles']))}"
        for member in facts["members"]
    ]
    for owner in sorted({table["owner"] for table in tables}):
        owned = [table for table in tables if table["owner"] == owner]
        sentences = [f"{owner} owns {'every table' if owned == tables else _join(map(_name, owned))}."]
        if visible := [_name(table) for table in tables for policy in table["policies"] if owner in policy["roles"]]:
            sentences.append(f"Policies also apply to it, and permit only {_join(dict.fromkeys(visible))}.")
        for revoked in sorted({tuple(table["owner_may_not"]) for table in owned if table["owner_may_not"]}):
            where = (_name(table) for table in owned if tuple(table["owner_may_not"]) == revoked)
            sentences.append(f"It lacks {_join(revoked)} on {_join(where)}.")
        lines.append(" ".join(sentences))
    lines += [f"Usage of the schema {schema['schema']}: {_join(schema['roles'])}." for schema in facts["schemas"]]
    yield _list(lines)


def _table(table: Row) -> Iterator[str]:
    yield f"## {_name(table)}"
    yield _wrap(_introduction(table))
    if missing := [f"`_{name}`" for name in RESTRICTIVE if name not in table["closed"]]:
        reason = "" if table["by_tenant"] else " Its rows belong to no organization."
        yield f"**Without {_join(missing)}.**{reason}"
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
        if not (_is_public(policy) and any(_is_restriction(policy, name) for name in RESTRICTIVE))
    ]
    if further := [
        policy["policy"]
        for policy in own
        if policy["kind"] == "restrictive" and not any(_is_restriction(policy, name) for name in RESTRICTIVE)
    ]:
        yield f"**Further restrictive policies: {_join(further)}.**"
    yield "\n".join(["```sql", *map(_sql, own), "```"])


def _introduction(table: Row) -> str:
    """The first sentence of the file with the table's policies, and a link to the file."""
    for path in sorted(SQL.glob("policies/*.sql")):
        text = path.read_text()
        if re.search(rf"schema_admin\.(isolate|close_table)\('{_name(table)}'", text):
            comment = takewhile(lambda line: line.startswith("--"), text.splitlines())
            text = " ".join(line.removeprefix("-- ") for line in comment).removeprefix(f"{table['table']}: ")
            return f"{text[0].upper()}{re.split(r'(?<=[.]) ', text[1:])[0]} ([{path.name}]({path.relative_to(SQL)}))"
    return "**No file has the policies of this table.**"


def _cell(table: Row, right: Row, command: str, letters: dict[str, str]) -> str:
    """The rows that a role may access by the command, and a letter for the columns if they are limited."""
    if not right[command]:
        return "-"
    permitted = [
        _label(table, policy, command)
        for policy in table["policies"]
        if policy["kind"] == "permissive"
        and policy["command"] in (command, "all")
        and not {right["role"], "PUBLIC"}.isdisjoint(policy["roles"])
    ]
    text = "; or ".join(dict.fromkeys(permitted)) or "nothing: no policy"
    if table["row_security"] == "off":
        text = "all, without policies"
    letter = letters.setdefault(right[command], chr(ord("a") + len(letters))) if right[command] != "all" else None
    return f"{text} ({letter})" if letter else text


def _label(table: Row, policy: Row, command: str) -> str:
    every = ALL if "tenant" in table["closed"] or not table["by_tenant"] else ALL_ORGANIZATIONS
    labels = {"true": every} | LABELS
    before, after = (labels.get(rule, f"`{rule}`") for rule in (policy["using"], policy["check"] or policy["using"]))
    if command == "update" and before != after:
        return f"{before}; with check {after}"
    return after if command == "insert" else before


def _sql(policy: Row) -> str:
    kind = " as restrictive" if policy["kind"] == "restrictive" else ""
    lines = [f"{policy['policy']}{kind} for {policy['command']} to {_join(policy['roles'])}"]
    lines += [f"using ({policy['using']})"] if policy["using"] else []
    lines += [f"with check ({policy['check']})"] if policy["check"] else []
    if len(line := " ".join(lines)) <= 120:
        return line
    return "\n".join([_wrap(lines[0], "        "), *(_wrap(f"    {line}", "        ") for line in lines[1:])])


def _elsewhere(facts: Facts) -> Iterator[str]:
    """The rights on schemas without own sections, by role."""
    yield "## The queue, and the state of the schema step"
    lines = []
    for name in sorted({schema["schema"] for schema in facts["schemas"]} - {*OWN_SECTIONS}):
        tables, rights, functions = (
            [fact for fact in facts[kind] if fact["schema"] == name] for kind in ("tables", "rights", "functions")
        )
        granted = {right["role"] for right in rights}
        for role in sorted(granted | {role for function in functions for role in function["roles"]}):
            by_commands: dict[str, list[str]] = {}
            for right in (right for right in rights if right["role"] == role):
                by_commands.setdefault(_commands(right), []).append(right["table"])
            parts = [
                f"{commands} on {'all tables' if len(on) == len(tables) else _join(on)}"
                for commands, on in by_commands.items()
            ]
            if executable := [function["function"] for function in functions if role in function["roles"]]:
                is_all = 1 < len(executable) == len(functions)
                parts.append(f"execute {'all functions' if is_all else _join(executable)}")
            lines.append(f"{name}: {role} may {'; '.join(parts)}.")
    yield _list(lines)


def _commands(right: Row) -> str:
    granted = [(command, right[command]) for command in COMMANDS if right[command]]
    commands = [command if columns == "all" else f"{command} ({columns})" for command, columns in granted]
    return _join([*commands, right["more"]] if right["more"] else commands)


def _functions(facts: Facts) -> Iterator[str]:
    yield "## Functions"
    yield "Roles with EXECUTE, and the role as which the function runs if that is not the caller. Trigger functions are omitted."
    by_roles: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for function in facts["functions"]:
        if function["schema"] in OWN_SECTIONS:
            roles = ("PUBLIC",) if "PUBLIC" in function["roles"] else tuple(function["roles"])
            comment = f" ({function['comment']})" if function["comment"] else ""
            text = f"{function['schema']}.{function['function']}{comment}"
            by_roles.setdefault(roles, {}).setdefault(function["runs as"] or "", []).append(text)
    for roles, owners in sorted(by_roles.items()):
        yield _wrap(f"**{_join(roles)}**")
        yield _list((f"as {owner}: " if owner else "") + _join(owners[owner]) for owner in sorted(owners))


def _name(table: Row) -> str:
    return f"{table['schema']}.{table['table']}"


def _join(names: Iterable[str]) -> str:
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
