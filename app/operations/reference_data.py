"""Tables that the schema step fills from sql/data: the transitions of claims, and diagnosis codes."""

import csv
import lzma
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg

from app.database.schema_files import SQL
from app.vocabulary import ACTING_ROLES

TRANSITION_COLUMNS = "from_status, to_status, role, requires, needs_reason, needs_denial_reason, rule"
TRANSITIONS = SQL / "data" / "claim-transitions.csv"
SHIPPED_CODES, SHIPPED_FROM = SQL / "data" / "icd10cm-2026-04.tsv.xz", date(2026, 4, 1)
"""The release of diagnosis codes in sql/data, and its first day."""


def load_claim_transitions(connection: psycopg.Connection[Any]) -> None:
    """Replaces the transitions by those of the file: a row for each role that may make one."""
    connection.execute("delete from claim_transitions")
    with (
        TRANSITIONS.open(newline="") as file,
        connection.cursor().copy(f"copy claim_transitions ({TRANSITION_COLUMNS}) from stdin") as copy,
    ):
        for line in csv.DictReader(file):
            requires, rule = line["requires"] or None, line["rule"] or None
            flags = line["needs_reason"], line["needs_denial_reason"]
            for role in ACTING_ROLES:
                if line[role] != "no":
                    copy.write_row((line["from_status"], line["to_status"], role, requires, *flags, rule))


def load_diagnosis_codes(connection: psycopg.Connection[Any]) -> None:
    """Makes the release of sql/data the shipped one. Other releases remain. Changes only the rows that differ."""
    text = lzma.decompress(SHIPPED_CODES.read_bytes()).decode()
    with connection.transaction():
        connection.execute(
            "delete from schema_admin.diagnosis_releases where (valid_from = %(valid_from)s or shipped) "
            "and not (valid_from = %(valid_from)s and valid_until = 'infinity' and shipped and codes = %(codes)s)",
            {"valid_from": SHIPPED_FROM, "codes": text},
        )
        connection.execute(
            "insert into schema_admin.diagnosis_releases (valid_from, shipped, codes) values (%s, true, %s) on conflict do nothing",
            [SHIPPED_FROM, text],
        )
        rebuild_diagnosis_codes(connection)


def rebuild_diagnosis_codes(connection: psycopg.Connection[Any]) -> None:
    """Makes diagnosis_codes from the releases, in the current transaction."""
    connection.execute("select app.rebuild_diagnosis_codes()")
    connection.execute("analyze app.diagnosis_codes")


LOADERS: dict[Path, Callable[[psycopg.Connection[Any]], None]] = {
    TRANSITIONS: load_claim_transitions,
    SHIPPED_CODES: load_diagnosis_codes,
}
"""The function that loads each file."""
