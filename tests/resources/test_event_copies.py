"""Events that are delivered again, late, or by systems with other clocks: the claims end as if each event had come once, in time."""

import itertools
import random
from typing import Any

import msgspec
import pytest

from tests.support.workers import Stay, as_worker, run

Event = tuple[str, str, dict[str, Any]]


def sequence(*events: str, **more: Any) -> list[Event]:
    """Events from words like "discharge 12": the type, and the day of November 2026, at noon."""
    return [(kind, f"2026-11-{day}", more) for kind, day in (one.split() for one in events)]


class Patient:
    """A patient with a small and a large claim for each of some days."""

    def __init__(self, stay: Stay) -> None:
        self.stay = stay
        self.id = ""
        self.claims: dict[str, str] = {}

    async def create(self, *days: str) -> "Patient":
        self.id = await self.stay.patient()
        amounts = dict.fromkeys(days, 10) | {f"{day} large": 1500 for day in days}
        lines = [
            {"patientId": self.id, "providerId": str(self.stay.who.ana_provider), "diagnosisCode": "I10",
             "amount": amount, "serviceDate": day[:10]}
            for day, amount in amounts.items()
        ]  # fmt: skip
        response = await self.stay.admin(
            "POST", "/api/claims/import", content=b"".join(msgspec.json.encode(line) + b"\n" for line in lines),
            headers={"Content-Type": "application/x-ndjson"},
        )  # fmt: skip
        results = [msgspec.json.decode(line) for line in response.content.splitlines()]
        assert {one["result"] for one in results} == {"created"}
        self.claims = dict(zip(amounts, [one["id"] for one in results], strict=True))
        return self

    async def statuses(self) -> dict[str, str]:
        """The status of each claim, by its day."""
        rows = (await self.stay.admin.get(f"/api/claims?patientId={self.id}&limit=100")).json()["data"]
        found = {row["id"]: row["status"] for row in rows}
        return {day: found[claim] for day, claim in self.claims.items()}

    async def report(self, event: Event) -> Any:
        kind, at, more = event
        return await self.stay.report(self.id, kind, at, **more)


DAYS = ("2026-10-25", "2026-11-06", "2026-11-08")
STAYS = {
    "one visit": sequence("admission 05", "discharge 07"),
    "numbered": sequence("admission 05", "discharge 07", visitNumber="V-1"),
    "cancelled admission": sequence("admission 05", "admission_cancelled 06"),
    "cancelled discharge": sequence("admission 05", "discharge 07", "discharge_cancelled 08"),
    "two visits": sequence("admission 05", "discharge 06", "admission 07", "discharge 08"),
    "again": sequence("admission 05", "admission_cancelled 06", "admission 07", "discharge 08"),
    "discharged twice": sequence("admission 05", "discharge 07", "discharge_cancelled 08", "discharge 09"),
    "no admission": sequence("discharge 07"),
    "treatment": sequence("treatment_initiated 05", "discharge 07", visitNumber="V-1"),
}


@pytest.mark.parametrize("name", STAYS)
async def test_a_copy_changes_nothing_wherever_it_arrives(stay, name):
    events = STAYS[name]
    once = await Patient(stay).create(*DAYS)
    for event in events:
        await once.report(event)
    expected = await once.statuses()
    assert set(expected.values()) != {"submitted"} or "cancelled" in name  # control: the events have effects
    for first in range(len(events)):
        for later in range(first, len(events)):
            twice = await Patient(stay).create(*DAYS)
            for place, event in enumerate(events):
                await twice.report(event)
                if place == later:
                    assert await twice.report(events[first]) == (set(), {})
            assert await twice.statuses() == expected, (first, later)


@pytest.mark.parametrize("name", STAYS)
async def test_copies_that_wait_at_once_change_nothing(stay, settings, cast, name):
    once, twice = await Patient(stay).create(*DAYS), await Patient(stay).create(*DAYS)
    for patient, copies in ((once, 1), (twice, 3)):
        posted = []
        for kind, at, more in STAYS[name]:
            for number in range(copies):
                key = f"{patient.id}-{kind}-{at}-{number}"
                posted.append(await stay.event(patient.id, kind, f"{at}T12:00:00Z", idempotencyKey=key, **more))
        with as_worker(settings) as worker:
            for event in posted:
                assert run(worker, cast, event) == ("completed", 0)
                worker.commit()
    assert await twice.statuses() == await once.statuses()


async def test_the_claims_of_a_visit_are_the_same_in_any_order_of_arrival(stay):
    """Admission, treatment and discharge of a numbered visit, with a copy of each."""
    for number, late in ((" v-1 ", False), ("V-1", True)):
        events = [
            ("admission", "2026-11-05", {"visitNumber": "V-1"}),
            ("discharge", "2026-11-07", {"visitNumber": number}),
            ("discharge", "2026-11-07", {"visitNumber": "V-1", "idempotencyKey": None}),
        ]
        if late:
            events.append(("admission", "2026-11-05", {"visitNumber": "v-1"}))
        orders = list(itertools.permutations(events))
        for order in random.Random(3).sample(orders, min(len(orders), 8)):
            patient = await Patient(stay).create("2026-10-18", "2026-11-06")
            for event in order:
                await patient.report(event)
            assert await patient.statuses() == {
                "2026-10-18": "under_review", "2026-10-18 large": "under_review",
                "2026-11-06": "approved", "2026-11-06 large": "under_review",
            }, order  # fmt: skip


async def test_a_second_copy_of_a_discharge_does_not_end_the_visit_of_the_first(stay):
    patient = await Patient(stay).create("2026-10-20", "2026-11-08")
    await patient.report(("admission", "2026-11-07", {}))
    await patient.report(("discharge", "2026-11-09", {}))
    await patient.report(("discharge", "2026-11-09", {"idempotencyKey": "again"}))
    assert (await patient.statuses())["2026-10-20"] == "under_review"
    assert (await patient.statuses())["2026-11-08"] == "approved"  # control


@pytest.mark.parametrize("undone", ["admission", "discharge"])
async def test_undoing_an_event_that_came_twice_undoes_it_once(stay, undone):
    patient = await Patient(stay).create("2026-11-06")
    events = sequence("admission 05", "discharge 07")[: 1 + (undone == "discharge")]
    for event in events:
        await patient.report(event)
        await patient.report(event)
    (cancelled,) = sequence(f"{undone}_cancelled 08")
    updated, skipped = await patient.report(cancelled)
    assert (updated, skipped) != (set(), {})
    back = {"admission": "submitted", "discharge": "under_review"}[undone]
    assert set((await patient.statuses()).values()) == {back}
    assert await patient.report(cancelled) == (set(), {})
    assert await patient.report(events[-1]) == (set(), {})  # what is cancelled stays cancelled
    assert set((await patient.statuses()).values()) == {back}


async def test_a_copy_of_a_cancellation_does_not_undo_the_next_admission(stay):
    patient = await Patient(stay).create("2026-11-06")
    admission, cancelled, again = sequence("admission 05", "admission_cancelled 06", "admission 07")
    for event in (admission, cancelled, again, cancelled):
        await patient.report(event)
    assert set((await patient.statuses()).values()) == {"under_review"}


async def test_random_copies_change_nothing(stay):
    chance = random.Random(17)
    kinds = ["admission", "discharge", "admission_cancelled", "discharge_cancelled", "treatment_initiated"]
    for _ in range(6):
        events: list[Event] = [
            (chance.choice(kinds), f"2026-11-{chance.randint(5, 9):02}T{chance.randint(8, 18):02}:00:00Z",
             chance.choice([{}, {"visitNumber": "V-1"}, {"visitNumber": "V-2"}]))
            for _ in range(6)
        ]  # fmt: skip
        once, twice = await Patient(stay).create(*DAYS), await Patient(stay).create(*DAYS)
        done: list[Event] = []
        for event in events:
            await once.report(event)
            await twice.report(event)
            done.append(event)
            assert await twice.report(chance.choice(done)) == (set(), {})
        assert await twice.statuses() == await once.statuses(), events


async def test_a_discharge_an_hour_before_its_admission_is_of_the_same_visit(stay):
    for order in (0, 1):
        patient = await Patient(stay).create("2026-10-20", "2026-11-09")
        events = [("admission", "2026-11-09T10:00:00Z", {"visitNumber": "V-7"}),
                  ("discharge", "2026-11-09T09:00:00Z", {"visitNumber": "v-7"})]  # fmt: skip
        for event in events[:: -1 if order else 1]:
            await patient.report(event)
        assert (await patient.statuses())["2026-11-09"] == "approved"
        assert (await patient.statuses())["2026-10-20"] == "under_review"


async def test_a_late_admission_takes_back_approvals_outside_the_visit(stay, as_user):
    for number in ({"visitNumber": "V-9"}, {}):
        patient = await Patient(stay).create("2026-10-25", "2026-11-08")
        await patient.report(("discharge", "2026-11-09", number))
        assert (await patient.statuses())["2026-10-25"] == "approved"  # control: no visit is known
        paid = patient.claims["2026-10-25"]
        if not number:
            await as_user("alma").patch(f"/api/claims/{paid}", {"status": "paid"})
        updated, _ = await patient.report(("admission", "2026-11-07", number))
        expected = {"2026-10-25": "under_review" if number else "paid", "2026-10-25 large": "under_review",
                    "2026-11-08": "approved", "2026-11-08 large": "under_review"}  # fmt: skip
        assert await patient.statuses() == expected
        assert (paid in updated) is bool(number)
        # The approvals that remain are the discharge's, and its cancellation takes them back.
        await patient.report(("discharge_cancelled", "2026-11-09T13:00:00Z", number))
        assert (await patient.statuses())["2026-11-08"] == "under_review"


NUMBER, OTHER = {"visitNumber": "V-1"}, {"visitNumber": "V-2"}
LATE_ADMISSIONS: dict[str, list[Event]] = {
    "another visit began since": [
        ("discharge", "2026-11-09", NUMBER), ("admission", "2026-11-07", OTHER), ("admission", "2026-11-05", {}),
    ],
    "another visit began and ended since": [
        ("admission", "2026-11-07", OTHER), ("discharge", "2026-11-08", OTHER), ("discharge", "2026-11-09", {}),
        ("admission", "2026-11-05", NUMBER),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", LATE_ADMISSIONS)
async def test_a_late_admission_takes_back_approvals_whatever_other_visits_there_are(stay, name):
    *before, admission = LATE_ADMISSIONS[name]
    patient = await Patient(stay).create("2026-10-25", "2026-11-06")
    for event in before:
        await patient.report(event)
    assert (await patient.statuses())["2026-10-25"] == "approved"  # control: no visit is known
    await patient.report(admission)
    assert (await patient.statuses())["2026-10-25"] == "under_review"
    assert (await patient.statuses())["2026-11-06"] == "approved"


async def test_two_discharges_at_one_time_end_the_same_visit(stay):
    """One report has the number of the visit, the other has none."""
    for number in (NUMBER, {}):
        events = [
            ("discharge", "2026-11-09", NUMBER),
            ("discharge", "2026-11-09", {}),
            ("admission", "2026-11-05", number),
        ]
        for order in itertools.permutations(events):
            patient = await Patient(stay).create("2026-10-25", "2026-11-06")
            for event in order:
                await patient.report(event)
            assert (await patient.statuses())["2026-10-25"] == "under_review", order
            assert (await patient.statuses())["2026-11-06"] == "approved", order


async def test_a_discharge_without_a_known_visit_concerns_thirty_local_days(stay, as_root, cast):
    """New York changed its clocks on 2026-03-08, so 30 days of 24 hours before half past midnight end on the day before."""
    as_root.execute(
        "update organizations set timezone = 'America/New_York' where organization_id = %s", [cast.organization]
    )
    patient = await Patient(stay).create("2026-03-01", "2026-03-02", "2026-04-01")
    updated, _ = await patient.report(("discharge", "2026-04-01T04:30:00Z", {}))
    assert patient.claims["2026-03-02"] in updated
    assert patient.claims["2026-04-01"] in updated
    assert patient.claims["2026-03-01"] not in updated


async def test_an_idempotency_key_belongs_to_its_sender(as_user, cast, as_root):
    as_root.execute(
        "insert into care_relationships (organization_id, provider_id, patient_id) select %s, %s, %s on conflict do nothing",
        [cast.organization, cast.ben_provider, cast.tom_patient],
    )
    body = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": "2026-11-05T12:00:00Z",
            "idempotencyKey": "MSG00001"}  # fmt: skip
    first = {
        who: await as_user(who).post("/api/patient-status", body | {"notes": who}) for who in ("ana", "ben", "alma")
    }
    assert {who: one.status_code for who, one in first.items()} == {"ana": 202, "ben": 202, "alma": 202}
    assert len({one.json()["data"]["id"] for one in first.values()}) == 3
    for who, one in first.items():
        again = await as_user(who).post("/api/patient-status", body | {"notes": who})
        assert (again.status_code, again.json()["data"]["id"]) == (200, one.json()["data"]["id"])
        assert (await as_user(who).post("/api/patient-status", body | {"notes": "other"})).status_code == 422
