"""`python -m tests.architecture.words`, a part of `make lint`: the words of names, comments, docstrings, documents and API texts.

Rules: no metaphor that has a standard term; no person without a role (whoever, somebody, nobody, everybody, anybody); the first word of a
docstring, an SQL comment and an API description is a noun or a verb, not Who, Whoever or What. Prints `file:line: reason` for each
violation. The exit status is 1 if there is one.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = re.compile(
    r"doors?|knock\w*|ushers?|gates?|gated|cork\w*|lanes?|tally|tallies|tallied|trails?|eras?|fold(s|ed|ing)?|furnish\w*"
    r"|plant(s|ed|ing)?|dear|whoever|whomever|(some|no|every|any)body"
)
"""Metaphors with a standard term, and people without a role."""
TURNS = re.compile(r"\b(in|by|takes?|taking|took|its|their|his|whose) turns?\b", re.IGNORECASE)
"""Round robin, one at a time, alternately."""
SUBJECTLESS = re.compile(r"(Who|Whoever|Whom|Whose|What|Whatever|That which)\b")
PLACES = {
    "app": ["app/**/*"],
    "jobs": ["jobs/**/*"],
    "sql": ["sql/**/*.sql"],
    "migrations": ["migrations/*"],
    "tests": ["tests/**/*", "conftest.py", "pgrls.toml"],
    "documents": ["*.md", "sql/*.md", "findings/*", "Makefile", ".ci/*"],
    "settings": ["pyproject.toml", "compose.yaml", ".env.example"],
    "API": ["openapi.json"],
}
"""The texts of the repository. Those of app and tests include app/operations/README.md and tests/load/README.md."""
EXCLUDED = {
    "tests/architecture/words.py", "tests/architecture/test_words.py", "tests/load/RESULTS.md",
    # Old names of version 0033.
    "sql/deploy/rename.sql", "tests/operations/catalog.py",
}  # fmt: skip
OLD_NAMES = {
    "sql/README.md": {"gate", "usher", "tally", "tallies"},
    "app/operations/shared_roles.py": {"gate"},
    "app/http/openapi/text.py": {"Tally"},  # the published name of a schema
    "openapi.json": {"Tally"},
}
"""Parts of old names: those of version 0033, for upgrades, and a name that clients know."""
SUFFIXES = {".py", ".sql", ".md", ".csv", ".toml", ".yaml", ".sh", ".json", ".example", ".service", ".conf", ""}
API_TEXT = re.compile(r'\s*"(?:description|summary|title)": (".*"),?$')
"""A line of openapi.json with a text."""


def files(place: str, root: Path = ROOT) -> list[Path]:
    """The files of a place, in order."""
    found = [path for pattern in PLACES[place] for path in root.glob(pattern)]
    return sorted(
        path
        for path in found
        if path.is_file()
        and path.suffix in SUFFIXES
        and path.relative_to(root).as_posix() not in EXCLUDED
        and not {"data", "__pycache__"} & {*path.relative_to(root).parts}
    )


def forbidden(line: str) -> list[str]:
    """The forbidden words of a line; parts of identifiers are words."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", line)
    return [word for word in words if FORBIDDEN.fullmatch(word.lower())] + [found[0] for found in TURNS.finditer(line)]


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each docstring, those of variables included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def comments(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of the first line of each comment in SQL, and of the line after `-- name:`, which describes a query."""
    before = ""
    for number, line in enumerate(source.splitlines(), 1):
        if line.startswith("-- ") and (not before.startswith("--") or before.startswith("-- name:")):
            yield number, line.removeprefix("-- ")
        before = line


def api_texts(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each title, summary and description of the OpenAPI document."""
    for number, line in enumerate(source.splitlines(), 1):
        if found := API_TEXT.match(line):
            yield number, json.loads(found[1])


BEGINNINGS = {".py": docstrings, ".sql": comments, ".json": api_texts}
"""The texts whose first word is checked."""


def check(path: Path, name: str) -> list[str]:
    """The violations in a file of this name, in the order of its lines."""
    source = path.read_text()
    lines = api_texts(source) if path.suffix == ".json" else enumerate(source.splitlines(), 1)
    hits = [
        (number, f"the words {', '.join(words)} are not used here")
        for number, line in lines
        if (words := sorted({*forbidden(line)} - OLD_NAMES.get(name, set())))
    ]
    hits += [
        (number, f"begins without a noun or a verb: {text[:60]!r}")
        for number, text in BEGINNINGS.get(path.suffix, lambda _: [])(source)
        if SUBJECTLESS.match(text)
    ]
    return [f"{name}:{number}: {reason}" for number, reason in sorted(hits)]


def violations(place: str, root: Path = ROOT) -> list[str]:
    """The violations in the files of a place."""
    return [hit for path in files(place, root) for hit in check(path, path.relative_to(root).as_posix())]


def main(root: Path = ROOT) -> int:
    """Prints the violations; returns the exit status: 1 if there is one, else 0."""
    hits = [hit for place in PLACES for hit in violations(place, root)]
    print("".join(f"{hit}\n" for hit in hits), end="")
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main())
