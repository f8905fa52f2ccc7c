"""The table of a claim's changes of status, for the reference: written from sql/data/claim-transitions.csv, which the database checks."""

import csv
from html import escape

from app.database.schema_files import SQL
from app.vocabulary import ACTING_ROLES

COLUMNS = ("from", "to", *ACTING_ROLES, "requires")


def rows() -> list[tuple[str, ...]]:
    """The changes in the order of a claim's life, each with the cells of COLUMNS. A cell of a role is `-` if it may not make the change."""
    with (SQL / "data" / "claim-transitions.csv").open(newline="") as file:
        return [
            (
                line["from_status"] or "(new)",
                line["to_status"],
                *("-" if line[role] == "no" else line[role] for role in ACTING_ROLES),
                line["requires"].replace("approved_amount", "approvedAmount").replace("denial_reason", "denialReason"),
            )
            for line in csv.DictReader(file)
        ]


def as_markdown() -> str:
    """The table for a description of the OpenAPI document."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_html() -> str:
    """The table for the page of the reference."""
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows())
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
