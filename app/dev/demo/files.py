"""Reads claims and hospital stays from the CMS sample files."""

import csv
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class SampleClaim:
    """One claim of the files. amount is in dollars, as decimal text; provider is an NPI. Only hospital stays have `discharged`."""

    number: str
    member: str
    provider: str
    code: str
    amount: str
    day: date
    discharged: date | None = None


def _day(text: str) -> date:
    return datetime.strptime(text, "%d-%b-%Y").date()


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((HERE / name).read_text().splitlines(), delimiter="|"))


def read() -> list[SampleClaim]:
    """The carrier claims, then the inpatient stays. Each line of a carrier claim (CLM_ID) contains its total, so one line is used."""
    carrier = {row["CLM_ID"]: row for row in _rows("carrier.csv")}
    return [
        SampleClaim(
            f"CMS{row['CLM_ID']}",
            f"CMS{row['BENE_ID']}",
            row["PRF_PHYSN_NPI"],
            row["PRNCPAL_DGNS_CD"],
            row["NCH_CARR_CLM_SBMTD_CHRG_AMT"],
            _day(row["CLM_FROM_DT"]),
        )
        for row in carrier.values()
    ] + [
        SampleClaim(
            f"CMS{row['CLM_ID']}",
            f"CMS{row['BENE_ID']}",
            row["ORG_NPI_NUM"],
            row["PRNCPAL_DGNS_CD"],
            row["CLM_TOT_CHRG_AMT"],
            _day(row["CLM_FROM_DT"]),
            _day(row["NCH_BENE_DSCHRG_DT"] or row["CLM_THRU_DT"]),
        )
        for row in _rows("inpatient.csv")
    ]
