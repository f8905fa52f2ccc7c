"""The demo parses its files completely: facts are compared with counts from the raw text."""

from decimal import Decimal
from pathlib import Path

from app.dev.demo import files


def test_the_files_are_parsed_completely():
    claims = files.read()
    lines = [
        line.split("|")
        for name in ("carrier", "inpatient")
        for line in Path(files.HERE, f"{name}.csv").read_text().split()[1:]
    ]
    assert {one.number for one in claims} == {f"CMS{line[1]}" for line in lines}
    assert len(claims) == len({one.number for one in claims}) == 36
    assert {one.member for one in claims} == {f"CMS{line[0]}" for line in lines}
    assert sum(1 for one in claims if one.discharged) == 11
    stays = [line for line in lines if len(line) == 9]
    assert sum(Decimal(one.amount) for one in claims if one.discharged) == sum(Decimal(line[8]) for line in stays)
