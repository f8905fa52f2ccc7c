"""Loads the hand-written statements of sql/queries/<resource>.sql.

A statement begins with `-- name: <name>`. `:word` is a parameter. `@columns` and `@values` of an insert are the names in the parameter
`columns` and the parameters of these names: the fields of a request body, which only the code can name.

A fragment begins with `-- fragment: <name>`: lines that several statements of the file share. Comments in a statement have these meanings:

- `... -- if :word` at the end of a line: the line is omitted if the parameter is None. So no filter needs an OR.
- `-- use: <name>`: the fragment's lines come here.
- `-- sorts: <column> <type>, ...`: one text for each column and direction. `@sort`, `@type`, `@after` and `@direction` are replaced by
  values from this line only, so a client can never supply a name.
- `-- written out: <word> ...`: these parameters are inserted as literals. Only integers and lower-case words are allowed. With
  parameters instead, PostgreSQL would plan the statement at every execution.
- `-- signed: <word> ...`: the parameters that the API signs, in order, for the function of the schema auth that the statement calls.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from textwrap import indent
from typing import Any

QUERIES = Path(__file__).parents[2] / "sql" / "queries"
_IF = re.compile(r"\s*-- if :(\w+)\s*$")
_PARAMETER = re.compile(r"(?<!:):([a-z_]\w*)")
_COMMENT = re.compile(r"\s*--.*$")
_WRITTEN_OUT = re.compile(r"^-- written out: (.+)$", re.MULTILINE)
_SIGNED = re.compile(r"^-- signed: (.+)$", re.MULTILINE)
_CALLED = re.compile(r"\bauth\.(\w+)\(")
_WORD = re.compile(r"[a-z_]+")
_SORTS = re.compile(r"^-- sorts: (.+)\n", re.MULTILINE)
_SECTION = re.compile(r"^-- (name|fragment): (\w+)\n", re.MULTILINE)
_USE = re.compile(r"^( *)-- use: (\w+)\n", re.MULTILINE)


class Statement:
    """One statement. `text` returns it with the lines that the parameters select."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self._lines = [
            (match.group(1) if (match := _IF.search(line)) else None, _COMMENT.sub("", line).replace("%", "%%"))
            for line in source.splitlines()
        ]
        self.options = frozenset(option for option, _ in self._lines if option)
        match = _WRITTEN_OUT.search(source)
        self._written_out = match.group(1).split() if match else []
        self.inserts_columns = "@columns" in source
        """Whether the parameter `columns` names the columns of the new row."""
        self.sorted: dict[str, Statement] = {}
        self.signed: tuple[str, list[str]] | None = None
        """The function that requires a proof, and the parameters that the proof signs."""
        if (signed := _SIGNED.search(source)) and (called := _CALLED.search(source)):
            self.signed = called.group(1), signed.group(1).split()

    def text(self, given: Mapping[str, Any], tag: str = "") -> str:
        """The statement for these parameters, with psycopg's placeholders, after the tag."""
        chosen = frozenset([name for name in self.options if given.get(name) is not None])
        written_out = tuple([(name, _literal(given.get(name))) for name in self._written_out])
        return self._compose(chosen, written_out, tuple(given["columns"]) if self.inserts_columns else (), tag)

    @lru_cache(maxsize=4000)  # noqa: B019  (queries live as long as the process)
    def _compose(
        self,
        chosen: frozenset[str],
        written_out: tuple[tuple[str, str | None], ...],
        columns: tuple[str, ...],
        tag: str,
    ) -> str:
        kept = (line for option, line in self._lines if option is None or option in chosen)
        text = "\n".join(line for line in kept if line.strip())
        if not all(_WORD.fullmatch(name) for name in columns):
            raise ValueError("only words are columns")
        text = text.replace("@columns", ", ".join(columns)).replace(
            "@values", ", ".join(f":{name}" for name in columns)
        )
        words = {name: literal for name, literal in written_out if literal}
        return tag + _PARAMETER.sub(lambda found: words.get(found.group(1), f"%({found.group(1)})s"), text)


def _literal(value: Any) -> str | None:
    """The value as an SQL literal; None for None. Raises ValueError unless it is an integer or a lower-case word."""
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return f"'{value}'"
    raise ValueError("only integers and words are written out")


def _read(name: str, source: str) -> Statement:
    """The statement. With sorts, it is the first one, descending, and `sorted` contains all of them by `column` and `-column`."""
    if not (match := _SORTS.search(source)):
        return Statement(name, source)
    variants = {}
    for column, type_ in (one.split() for one in match.group(1).split(",")):
        for sign, after, direction in (("-", "<", "desc"), ("", ">", "asc")):
            words = {"sort": column, "type": type_, "after": after, "direction": direction}
            text = re.sub(r"@(\w+)", lambda word: words[word.group(1)], _SORTS.sub("", source))  # noqa: B023
            variants[f"{sign}{column}"] = Statement(f"{name}.{sign}{column}", text)
    query = next(iter(variants.values()))
    query.sorted = variants
    return query


class Queries:
    """The statements of one file, as attributes."""

    def __init__(self, resource: str) -> None:
        before, *parts = _SECTION.split((QUERIES / f"{resource}.sql").read_text())
        kinds, names, bodies = parts[::3], parts[1::3], parts[2::3]
        if before.strip() or len(set(names)) != len(names):
            raise ValueError(f"sql/queries/{resource}.sql: text before the first name, or a name twice")
        sections = list(zip(kinds, names, bodies, strict=True))
        fragments = {name: body for kind, name, body in sections if kind == "fragment"}
        sources = {name: body for kind, name, body in sections if kind == "name"}
        used = {name for body in sources.values() for _, name in _USE.findall(body)}
        if used != fragments.keys() or any(_USE.search(body) for body in fragments.values()):
            wrong = ", ".join(sorted(used ^ fragments.keys())) or "one uses another"
            raise ValueError(f"sql/queries/{resource}.sql: unknown or unused fragments: {wrong}")
        self.all = {
            name: _read(
                f"{resource}.{name}", _USE.sub(lambda use: indent(fragments[use[2]].rstrip() + "\n", use[1]), body)
            )
            for name, body in sources.items()
        }

    def __getattr__(self, name: str) -> Statement:
        try:
            return self.all[name]
        except KeyError:
            raise AttributeError(name) from None


@cache
def load(resource: str) -> Queries:
    """The statements of sql/queries/<resource>.sql."""
    return Queries(resource)
