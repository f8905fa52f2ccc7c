"""Days are those of the organization's time zone: today, 30 days back, the end of an appeal window."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.support.responses import problem

AHEAD, BEHIND = "Pacific/Kiritimati", "Etc/GMT+12"
"""Zones of UTC+14 and UTC-12: at any moment at least one of them has another day than UTC."""
ZONES = [AHEAD, BEHIND, "Pacific/Auckland", "Pacific/Honolulu", "America/New_York"]


def set_zone(as_root, zone, **settings):
    as_root.execute("update organizations set timezone = %s where slug = 'north'", [zone])
    for name, value in settings.items():
        as_root.execute(f"update organizations set {name} = %s where slug = 'north'", [value])


def today(zone) -> date:
    return datetime.now(ZoneInfo(zone)).date()


@pytest.mark.parametrize(("zone", "at", "day"), [
    ("America/New_York", "2026-04-01T04:30:00Z", "2026-04-01"), ("America/New_York", "2026-04-01T03:59:59.999999Z", "2026-03-31"),
    ("America/New_York", "2026-03-08T06:59:00Z", "2026-03-08"), ("America/New_York", "2026-11-01T05:30:00Z", "2026-11-01"),
    ("Pacific/Auckland", "2026-01-01T11:00:00Z", "2026-01-02"), ("Pacific/Honolulu", "2026-01-01T09:59:00Z", "2025-12-31"),
    ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29"), ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31"),
])  # fmt: skip
def test_the_day_of_an_instant_is_that_of_the_zone(as_root, zone, at, day):
    as_root.execute("set timezone = 'Asia/Tokyo'")  # the zone of the session does not matter
    assert as_root.execute("select local_day(%s, %s)::text", [zone, at]).fetchone() == (day,)


@pytest.mark.parametrize("zone", ZONES)
async def test_a_birth_of_today_is_accepted_and_one_of_tomorrow_is_not(as_user, as_root, cast, zone):
    set_zone(as_root, zone)
    body = {"memberNumber": "N-1", "firstName": "N", "lastName": "N", "dateOfBirth": str(today(zone))}
    tomorrow = str(today(zone) + timedelta(days=1))
    assert problem(await as_user("alma").post("/api/patients", body | {"dateOfBirth": tomorrow})) == (
        400,
        ["dateOfBirth"],
    )
    made = await as_user("ana").post("/api/patients", body)
    assert made.status_code == 201
    path = f"/api/patients/{made.json()['data']['id']}"
    assert problem(await as_user("alma").patch(path, {"dateOfBirth": tomorrow})) == (400, ["dateOfBirth"])
    assert (await as_user("alma").patch(path, {"dateOfBirth": str(today(zone))})).status_code == 200


@pytest.mark.parametrize("zone", ZONES)
async def test_a_service_of_today_is_accepted_and_one_of_tomorrow_is_not(as_user, as_root, cast, zone):
    set_zone(as_root, zone)
    body = {
        "patientId": str(cast.tom_patient),
        "providerId": str(cast.ana_provider),
        "diagnosisCode": "I10",
        "amount": 1,
    }
    for day, status in ((today(zone), 201), (today(zone) + timedelta(days=1), 400)):
        assert (await as_user("ana").post("/api/claims", body | {"serviceDate": str(day)})).status_code == status


@pytest.mark.parametrize("zone", ZONES)
async def test_an_appeal_window_ends_with_a_day_of_the_organization(as_user, as_root, cast, zone):
    set_zone(as_root, zone, appeal_window_days=10)
    first = datetime.combine(today(zone) - timedelta(days=10), datetime.min.time(), ZoneInfo(zone))
    path = f"/api/claims/{cast.anas_claim}"
    appeal = {"status": "appealed", "reason": "look again"}
    for processed_at, status in ((first - timedelta(microseconds=1), 409), (first, 200)):
        as_root.execute("alter table claims disable trigger user")
        as_root.execute(
            "update claims set status = 'rejected', denial_reason = 'no', processed_at = %s where claim_id = %s",
            [processed_at.astimezone(UTC), cast.anas_claim],
        )
        as_root.execute("alter table claims enable trigger user")
        answer = await as_user("ana").patch(path, appeal)
        assert answer.status_code == status, answer.text
        if status == 409:
            error = answer.json()["error"]
            until = str(today(zone) - timedelta(days=1))
            assert error["details"] == {"from": "rejected", "to": "appealed", "allowed": [], "appealUntil": until}
            assert error["message"] == f"The decision could be appealed until {until}."


async def test_an_event_before_the_patients_birth_is_refused_by_the_local_day(as_user, as_root, cast, stay):
    set_zone(as_root, "America/New_York")
    patient = await stay.patient(dateOfBirth="2026-04-01")
    body = {"patientId": patient, "eventType": "admission", "occurredAt": "2026-04-01T03:59:59Z"}
    assert problem(await as_user("alma").post("/api/patient-status", body)) == (400, ["occurredAt"])
    born = await as_user("alma").post("/api/patient-status", body | {"occurredAt": "2026-04-01T04:00:00Z"})
    assert born.status_code == 202


@pytest.mark.parametrize("who", ["alma", "ana"])
async def test_a_service_before_the_patients_birth_is_refused(as_user, cast, who):
    user = as_user(who)
    claim = {
        "patientId": str(cast.tom_patient),
        "providerId": str(cast.ana_provider),
        "diagnosisCode": "I10",
        "amount": 1,
    }
    assert problem(await user.post("/api/claims", claim | {"serviceDate": "1980-02-02"})) == (400, ["serviceDate"])
    born = await user.post("/api/claims", claim | {"serviceDate": "1980-02-03"})
    assert born.status_code == 201
    later = {"dateOfBirth": "1980-02-04"}
    path = f"/api/patients/{cast.tom_patient}"
    assert problem(await as_user("alma").patch(path, later)) == (409, ["dateOfBirth"])
    await as_user("alma").patch(f"/api/claims/{born.json()['data']['id']}", {"status": "voided"})
    assert (await as_user("alma").patch(path, later)).status_code == 200  # control: a voided claim does not count
    assert problem(await as_user("alma").patch(path, {"dateOfBirth": str(today("UTC"))})) == (409, ["dateOfBirth"])


async def test_a_birth_after_an_event_is_refused(as_user, stay):
    patient = await stay.patient()
    await stay.event(patient, at="2026-01-05T12:00:00Z")
    path = f"/api/patients/{patient}"
    assert problem(await as_user("alma").patch(path, {"dateOfBirth": "2026-01-06"})) == (409, ["dateOfBirth"])
    assert (await as_user("alma").patch(path, {"dateOfBirth": "2026-01-05"})).status_code == 200  # control


def test_sql_checks_a_birth_like_the_api(as_role, as_root, cast):
    set_zone(as_root, BEHIND)
    insert = "insert into patients (member_number, first_name, last_name, date_of_birth) values ('S-1', 'S', 'S', %s)"
    with pytest.raises(psycopg.Error) as caught:
        as_role("alma").execute(insert, [today(BEHIND) + timedelta(days=1)])
    assert caught.value.sqlstate == "INVAL"
    assert as_role("alma").execute(insert, [today(BEHIND)]).rowcount == 1  # control
