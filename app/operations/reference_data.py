"""Tables that the schema step fills from sql/data: the transitions of claims, and diagnosis codes."""

import csv
import lzma
from typing import Any

import psycopg

from app.database.schema_files import SQL
from app.vocabulary import ACTING_ROLES

TRANSITION_COLUMNS = "from_status, to_status, role, requires, needs_reason, needs_denial_reason, rule"


def load_claim_transitions(connection: psycopg.Connection[Any]) -> None:
    """Replaces the transitions by those of the file: a row for each role that may make one."""
    connection.execute("delete from claim_transitions")
    with (
        (SQL / "data" / "claim-transitions.csv").open(newline="") as file,
        connection.cursor().copy(f"copy claim_transitions ({TRANSITION_COLUMNS}) from stdin") as copy,
    ):
        for line in csv.DictReader(file):
            requires, rule = line["requires"] or None, line["rule"] or None
            flags = line["needs_reason"], line["needs_denial_reason"]
            for role in ACTING_ROLES:
                if line[role] != "no":
                    copy.write_row((line["from_status"], line["to_status"], role, requires, *flags, rule))


def load_diagnosis_codes(connection: psycopg.Connection[Any]) -> None:
    """Loads the shipped release, unless there are codes."""
    if connection.execute("select exists (select from app.diagnosis_codes)").fetchone() == (True,):
        return
    text = lzma.decompress((SQL / "data" / "icd10cm-2026-04.tsv.xz").read_bytes())
    with connection.cursor().copy("copy app.diagnosis_codes (code, billable, description) from stdin") as copy:
        copy.write(text)
    connection.execute("analyze app.diagnosis_codes")
