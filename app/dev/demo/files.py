"""The CMS sample files as claims and stays."""

import csv
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class SampleClaim:
    """One claim of the files. amount: decimal text in dollars; provider: NPI; discharged only where it was a stay."""

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
    """Carrier claims (one a CLM_ID: its total charge stands on every line, so lines are not added up), then inpatient stays."""
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
