"""Words and file names: no metaphors in names and texts, one word for each resource in every folder."""

import pytest

from app.resources import RESOURCES
from tests.architecture import words
from tests.architecture.words import PLACES, ROOT, comments, docstrings, forbidden, violations

PLATFORM = {"context", "health", "queue", "rate_limits", "execution", "maintenance", "worker", "__init__", "__main__"}
"""Files of sql and jobs that belong to no resource and no table."""


@pytest.mark.parametrize("place", PLACES)
def test_the_texts_of_a_place_keep_the_rules_of_words(place):
    assert words.files(place)
    assert violations(place) == []


def test_the_documents_and_generated_texts_are_read():
    read = {path.relative_to(ROOT).as_posix() for place in PLACES for path in words.files(place)}
    assert read >= {
        "app/operations/README.md", "tests/load/README.md", "findings/README.md", "sql/PERMISSIONS.md", "openapi.json",
        "README.md", "Makefile", "app/main.py", "jobs/worker.py", "sql/policies/claims.sql", "migrations/0005-users.sql",
    }  # fmt: skip


BROKEN = {
    "app/things.py": ('def f():\n    """Whoever asks."""\n', [
        "2: begins without a noun or a verb: 'Whoever asks.'", "2: the words Whoever are not used here",
    ]),
    "app/operations/README.md": ("# Commands\n\nSomebody runs them.\n", ["3: the words Somebody are not used here"]),
    "jobs/things.py": ('X = 1\n"""What it is."""\n', ["2: begins without a noun or a verb: 'What it is.'"]),
    "sql/queries/things.sql": ("-- name: list\n-- Who sees it.\nselect 1;\n", [
        "2: begins without a noun or a verb: 'Who sees it.'",
    ]),
    "sql/policies/things.sql": ("select 1;\n-- What it opens.\n", ["2: begins without a noun or a verb: 'What it opens.'"]),
    "sql/PERMISSIONS.md": ("nobody\n", ["1: the words nobody are not used here"]),
    "migrations/0001-things.sql": ("-- A row.\n-- Whose.\ncreate table gate ();\n", ["3: the words gate are not used here"]),
    "tests/load/README.md": ("Clients take turns.\n", ["1: the words take turns are not used here"]),
    "findings/README.md": ("everybody\n", ["1: the words everybody are not used here"]),
    "compose.yaml": ("# anybody\n", ["1: the words anybody are not used here"]),
    "openapi.json": ('{\n "description": "Who calls.\\nThe tally.",\n "Tally": 1\n}\n', [
        "2: begins without a noun or a verb: 'Who calls.\\nThe tally.'", "2: the words tally are not used here",
    ]),
}  # fmt: skip
"""A violation of each rule, in each kind of file."""


def test_each_rule_finds_a_violation(tmp_path, capsys):
    for name, (text, _) in BROKEN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert words.main(tmp_path) == 1
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(
        f"{name}:{hit}" for name, (_, hits) in BROKEN.items() for hit in hits
    )


def test_texts_without_a_violation_pass(tmp_path, capsys):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "things.py").write_text('def f():\n    """The caller."""\n')
    assert words.main(tmp_path) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("def trail_filters(rows):", ["trail"]), ("class OpenDoor:", ["Door"]), ("GATES = 1", ["GATES"]),
        ("-- What nobody's worker folded", ["nobody", "folded"]), ("served in turn", ["in turn"]), ("'tallied'", ["tallied"]),
        ("folder, trailers, casefold, aggregate, gateway, tenfold, turn off, return", []),
    ],
)  # fmt: skip
def test_words_are_found_in_identifiers_and_prose(line, found):
    assert forbidden(line) == found


def test_docstrings_and_comments_are_found():
    assert [text for _, text in docstrings('def f():\n    """One."""\n\n\nX = 1\n"""Two."""\n')] == ["Two.", "One."]
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
