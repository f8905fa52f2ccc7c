"""`python -m app.operations.load_codes`: loads a release of ICD-10-CM beside the shipped one, or removes one (`make load-codes`).

Arguments: FILE FROM [UNTIL], or `remove FROM`. FROM is the first day of the release, UNTIL its last. On its days its codes count, and no
others. Where days of two releases overlap, the one that began last counts; on days of none, the shipped one.
"""

import os
import re
import sys
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from app.database.pool import connection_problem
from app.operations.code_files import Code, InvalidFile, read_release, to_text
from app.operations.migrate import LOCK
from app.operations.psql import database_url
from app.operations.reference_data import rebuild_diagnosis_codes

USAGE = "usage: make load-codes FILE=icd10cm_order_2023.txt FROM=2022-10-01 [UNTIL=2023-09-30], or make unload-codes FROM=2022-10-01"
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
LEAST_SHARE = 0.9
"""A release with fewer codes than this share of the shipped one is refused: its file is cut. That of 2016 has 0.93 of 2026."""
SHIPPED = """
select valid_from, (select count(*) from string_to_table(rtrim(codes, E'\\n'), E'\\n'))
from schema_admin.diagnosis_releases where shipped"""
STORE = """
insert into schema_admin.diagnosis_releases as r (valid_from, valid_until, codes) values (%s, coalesce(%s, 'infinity'::date), %s)
on conflict (valid_from) do update set valid_until = excluded.valid_until, codes = excluded.codes
where (r.valid_until, r.codes) is distinct from (excluded.valid_until, excluded.codes)
returning true"""
OVERVIEW = """
select d.release, nullif(d.valid_from, '-infinity'), nullif(d.valid_until, 'infinity'), r.shipped
from app.diagnosis_release_days() d join schema_admin.diagnosis_releases r on r.valid_from = d.release order by d.valid_from"""


class Refused(Exception):
    """The command changes nothing. The message is for the operator."""


class Span(NamedTuple):
    """The days of a release. until: its last day; None if it has none."""

    first: date
    until: date | None


def load(connection: psycopg.Connection[Any], codes: list[Code], span: Span, *, force: bool = False) -> bool:
    """Loads the release in one transaction, in place of one that begins on the same day. Returns whether anything changed.

    force: accept a release that has much fewer codes than the shipped one. Raises Refused.
    """
    with connection.transaction():
        _lock(connection)
        first, count = _shipped(connection)
        if span.first == first:
            raise Refused(
                f"the shipped release begins on {first}; it is replaced by `make schema` of a newer version only"
            )
        if len(codes) < LEAST_SHARE * count and not force:
            raise Refused(
                f"the file has {len(codes):,} codes, the shipped release {count:,}: it is no complete release. FORCE=1 loads it."
            )
        after = span.until + timedelta(1) if span.until else None
        if connection.execute(STORE, [span.first, after, to_text(sorted(codes))]).fetchone() is None:
            return False
        rebuild_diagnosis_codes(connection)
    return True


def remove(connection: psycopg.Connection[Any], first: date) -> None:
    """Removes the release that begins on the day. Raises Refused if there is none, and for the shipped one."""
    with connection.transaction():
        _lock(connection)
        if first == _shipped(connection)[0]:
            raise Refused("the shipped release can't be removed")
        if not connection.execute(
            "delete from schema_admin.diagnosis_releases where valid_from = %s", [first]
        ).rowcount:
            raise Refused(f"no release begins on {first}")
        rebuild_diagnosis_codes(connection)


def overview(connection: psycopg.Connection[Any]) -> list[str]:
    """One line for each range of days: which release counts."""
    return [
        f"{first or ''!s:>10} .. {end - timedelta(1) if end else ''!s:<10}  release of {release}{', shipped' if shipped else ''}"
        for release, first, end, shipped in connection.execute(OVERVIEW)
    ]


def _lock(connection: psycopg.Connection[Any]) -> None:
    """Waits for a schema step, or another load."""
    connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])


def _shipped(connection: psycopg.Connection[Any]) -> tuple[date, int]:
    """The first day of the shipped release, and its number of codes."""
    if row := connection.execute(SHIPPED).fetchone():
        return row[0], row[1]
    raise Refused("the shipped release is not loaded: run `make schema`")


def parse_day(text: str, name: str) -> date:
    """The day YYYY-MM-DD. Raises Refused for any other text."""
    if DAY.fullmatch(text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise Refused(f"{name} must be a day, YYYY-MM-DD")


def _span(first: str, until: str) -> Span:
    span = Span(parse_day(first, "FROM"), parse_day(until, "UNTIL") if until else None)
    if span.until and span.until < span.first:
        raise Refused("UNTIL is the last day of the release and must not precede FROM")
    return span


def run(arguments: list[str], *, force: bool) -> list[str]:
    """Runs the command; returns the lines to print. Raises Refused, InvalidFile or OSError if it changes nothing."""
    match arguments:
        case ["remove", first]:
            day = parse_day(first, "FROM")
            with psycopg.connect(database_url(), autocommit=True, application_name="claims-codes") as connection:
                remove(connection, day)
                return [f"removed the release of {day}", *overview(connection)]
        case [file, first, *rest] if file and len(rest) < 2:
            span = _span(first, "".join(rest))
            codes = read_release(Path(file))
            with psycopg.connect(database_url(), autocommit=True, application_name="claims-codes") as connection:
                changed = load(connection, codes, span, force=force)
                billable = sum(code.billable for code in codes)
                done = "loaded" if changed else "already loaded, nothing changed"
                return [f"{done}: {len(codes):,} codes, {billable:,} of them billable", *overview(connection)]
        case _:
            raise Refused(USAGE)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 if nothing was changed."""
    try:
        print(*run(arguments, force=os.environ.get("FORCE") == "1"), sep="\n")
    except (Refused, InvalidFile) as error:
        print(f"codes: {error}", file=sys.stderr)
    except OSError as error:
        print(f"codes: {error.filename}: {error.strerror}", file=sys.stderr)
    except psycopg.OperationalError as error:
        if error.sqlstate:  # a statement failed, not the connection
            raise
        print(f"codes: the database {connection_problem(error)}", file=sys.stderr)
    else:
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
