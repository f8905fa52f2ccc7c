"""Words and file names: no metaphors in names and texts, one word for each resource in every folder."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.resources import RESOURCES

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
    "documents": [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "DECISIONS.md",
        "sql/README.md",
        "sql/TABLES.md",
        "Makefile",
    ],
}
"""Texts that are written by hand."""
EXCLUDED = {
    "tests/architecture/test_words.py", "tests/load/RESULTS.md",
    # Old names of version 0033.
    "sql/deploy/rename.sql", "tests/operations/catalog.py",
}  # fmt: skip
OLD_NAMES = {
    "sql/README.md": {"gate", "usher", "tally", "tallies"},
    "app/operations/shared_roles.py": {"gate"},
    "app/http/openapi/text.py": {"Tally"},  # the published name of a schema
}
"""Parts of old names: those of version 0033, for upgrades, and a name that clients know."""
TEXTS = {".py", ".sql", ".md", ".csv", ".toml", ""}
PLATFORM = {"context", "health", "queue", "rate_limits", "execution", "maintenance", "worker", "__init__", "__main__"}
"""Files of sql and jobs that belong to no resource and no table."""


def files(place: str) -> list[Path]:
    """The files of a place, in order."""
    found = [
        path for pattern in PLACES[place] for path in ROOT.glob(pattern) if path.is_file() and path.suffix in TEXTS
    ]
    return sorted(
        path for path in found if path.relative_to(ROOT).as_posix() not in EXCLUDED and "data" not in path.parts
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
    """(line, text) of the first line of each comment in SQL."""
    before = ""
    for number, line in enumerate(source.splitlines(), 1):
        if line.startswith("-- ") and not before.startswith("--"):
            yield number, line.removeprefix("-- ")
        before = line


def report(hits: list[str]) -> str:
    return f"{len(hits)} hits\n" + "\n".join(hits)


@pytest.mark.parametrize("place", PLACES)
def test_no_text_has_a_forbidden_word(place):
    hits = [
        f"{name}:{number}: {', '.join(words)}"
        for name, path in ((path.relative_to(ROOT).as_posix(), path) for path in files(place))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (words := sorted({*forbidden(line)} - OLD_NAMES.get(name, set())))
    ]
    assert files(place)
    assert not hits, report(hits)


@pytest.mark.parametrize("place", ["app", "jobs", "sql", "migrations", "tests"])
def test_docstrings_and_comments_begin_with_a_subject(place):
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {text[:60]!r}"
        for path in files(place)
        for number, text in {".py": docstrings, ".sql": comments}.get(path.suffix, lambda _: [])(path.read_text())
        if SUBJECTLESS.match(text)
    ]
    assert not hits, report(hits)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("def trail_filters(rows):", ["trail"]), ("class OpenDoor:", ["Door"]), ("GATES = 1", ["GATES"]),
        ("-- What nobody's worker folded", ["nobody", "folded"]), ("served in turn", ["in turn"]), ("'tallied'", ["tallied"]),
        ("folder, trailers, casefold, aggregate, gateway, tenfold, turn off, return", []),
    ],
)  # fmt: skip
def test_words_are_found_in_identifiers_and_prose(line, words):
    assert forbidden(line) == words


def test_a_docstring_without_a_subject_is_found():
    source = 'def f():\n    """Whoever asks."""\n\n\nX = 1\n"""What it is."""\n'
    assert [bool(SUBJECTLESS.match(text)) for _, text in docstrings(source)] == [True, True]
    assert [text for _, text in comments("-- Who\n-- What\nselect 1\n-- That\n")] == ["Who", "That"]


def tables() -> set[str]:
    """The tables of the migrations and of the queue's package, without their schemas."""
    lines = [line for path in (ROOT / "migrations").glob("*.sql") for line in path.read_text().splitlines()]
    return {line.split()[2].rpartition(".")[2] for line in lines if line.startswith("create table ")}


def has_a_known_name(name: str) -> bool:
    """Whether a file is named after a resource, a table, a part of a resource (`claims_bulk`), or the platform."""
    return name in {*RESOURCES, *tables()} | PLATFORM or name.startswith(tuple(f"{one}_" for one in RESOURCES))


@pytest.mark.parametrize("resource", [name for name in RESOURCES if name != "health"])
def test_a_resource_has_one_word_in_every_folder(resource):
    module = ROOT / "app" / "resources" / resource
    assert module.is_dir() or module.with_suffix(".py").exists()
    assert (ROOT / "sql" / "queries" / f"{resource}.sql").exists()
    assert (ROOT / "tests" / "resources" / f"test_{resource}.py").exists()


@pytest.mark.parametrize("folder", ["sql/queries", "sql/functions", "sql/policies", "sql/triggers", "jobs"])
def test_files_are_named_after_a_resource_or_a_table(folder):
    names = {path.stem for path in (ROOT / folder).iterdir() if path.suffix in (".sql", ".py")}
    assert names
    assert sorted(name for name in names if not has_a_known_name(name)) == []


def test_a_file_of_another_name_is_found():
    assert [name for name in ("claims", "claim_totals", "claims_bulk", "events", "claim") if not has_a_known_name(name)] == [
        "events", "claim",
    ]  # fmt: skip
