"""Amounts: at most two decimals, judged by their decimal digits and not by binary arithmetic."""

import pytest

from app.errors import Invalid
from app.http.schemas import to_cents


def test_every_amount_in_cents_is_accepted():
    for cents in [*range(0, 200_000), *range(99_990_000, 100_000_001)]:
        assert to_cents(float(f"{cents // 100}.{cents % 100:02d}")) == cents


def test_the_error_of_binary_arithmetic_is_no_decimal():
    assert to_cents(0.1 + 0.2) == 30  # 0.30000000000000004
    assert to_cents(1.1 * 3) == 330  # 3.3000000000000003


@pytest.mark.parametrize("amount", [0.001, 0.010000001, 1250.501, 0.005, 1e-7, 999_999.990001, 1.0000000001])
def test_more_than_two_decimals_are_refused(amount):
    with pytest.raises(Invalid):
        to_cents(amount)


async def test_the_api_refuses_more_than_two_decimals(as_user, cast):
    claim = {
        "patientId": str(cast.tom_patient),
        "providerId": str(cast.ana_provider),
        "diagnosisCode": "E11.9",
        "serviceDate": "2026-01-14",
    }
    alma = as_user("alma")
    for amount in (0.010000001, 1250.501):
        refused = await alma.post("/api/claims", json=claim | {"amount": amount})
        assert refused.json()["error"]["details"] == {"fields": {"amount": ["Must have at most two decimals"]}}
    for amount in (0.29, 1.15, 0.1 + 0.2, 4.35):
        created = await alma.post("/api/claims", json=claim | {"amount": amount})
        assert created.json()["data"]["amount"] == round(amount, 2)
