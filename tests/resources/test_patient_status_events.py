"""Effects of patient status events on claims: late and early events, several visits, and updates by users meanwhile."""

from tests.support.workers import as_worker, run

CANCELLED = "the admission was cancelled"


async def test_a_cancellation_may_precede_its_event(stay):
    patient = await stay.patient()
    claim = await stay.claim(patient)
    assert await stay.report(patient, "admission_cancelled", "2026-11-11") == (set(), {})
    assert await stay.report(patient, "admission", "2026-11-10") == (set(), {claim: CANCELLED})
    assert await stay.status(claim) == "submitted"
    assert await stay.report(patient, "discharge_cancelled", "2026-11-13", visitNumber="V") == (set(), {})
    found = await stay.report(patient, "discharge", "2026-11-12", visitNumber="V")
    assert found == (set(), {claim: "the discharge was cancelled"})
    # Of another visit: not cancelled.
    assert await stay.report(patient, "discharge", "2026-11-12", visitNumber="W") == ({claim}, {})
    assert await stay.status(claim) == "approved"


async def test_a_cancellation_reverts_the_claims_that_no_user_updated(stay, as_user, as_root, cast):
    patient = await stay.patient()
    left, touched, early, assigned = [await stay.claim(patient) for _ in range(4)]
    pia = as_user("pia")
    as_root.execute("update claims set assigned_to = %s where claim_id = any (%s)", [cast.pia, [touched, early]])
    await pia.patch(f"/api/claims/{early}", {"status": "under_review"})
    assert await stay.report(patient, "admission", "2026-11-10") == ({left, touched, assigned}, {})
    as_root.execute("update claims set assigned_to = %s where claim_id = %s", [cast.pia, assigned])
    await pia.patch(f"/api/claims/{touched}", {"status": "pending_info", "reason": "a question"})
    await pia.patch(f"/api/claims/{touched}", {"status": "under_review"})
    found = await stay.report(patient, "admission_cancelled", "2026-11-11")
    assert found == ({left, assigned}, {touched: "it was moved since"})
    assert [await stay.status(one) for one in (left, touched, early)] == ["submitted", "under_review", "under_review"]
    assert await stay.report(patient, "discharge", "2026-11-12") == (
        {left, assigned}, dict.fromkeys((touched, early), "a person is working on it"),
    )  # fmt: skip
    alma = as_user("alma")
    await alma.patch(f"/api/claims/{left}", {"status": "paid"})
    found = await stay.report(patient, "discharge_cancelled", "2026-11-13")
    assert found == ({assigned}, {left: "it was moved since"})
    assert [await stay.status(one) for one in (left, assigned)] == ["paid", "under_review"]


async def test_a_late_admission_updates_the_claims_that_are_still_submitted(stay):
    patient = await stay.patient()
    inside, before = await stay.claim(patient), await stay.claim(patient, serviceDate="2026-10-01")
    assert await stay.report(patient, "discharge", "2026-11-12") == ({inside}, {})
    assert await stay.report(patient, "admission", "2026-11-10") == ({before}, {})
    assert [await stay.status(one) for one in (inside, before)] == ["approved", "under_review"]


async def test_a_discharge_processes_the_claims_of_its_own_visit(stay):
    for one, two in (({"visitNumber": "V-1"}, {"visitNumber": "V-2"}), ({}, {})):
        patient = await stay.patient()
        days = {
            day: await stay.claim(patient, serviceDate=f"2026-10-{day}") for day in ("01", "05", "07", "10", "15", "16")
        }
        await stay.report(patient, "admission", "2026-10-05", **one)
        assert await stay.report(patient, "discharge", "2026-10-07", **one) == ({days["05"], days["07"]}, {})
        await stay.report(patient, "admission", "2026-10-10", **two)
        assert await stay.report(patient, "discharge", "2026-10-15", **two) == ({days["10"], days["15"]}, {})
        assert {await stay.status(days[day]) for day in ("01", "16")} == {"under_review"}


async def test_a_cancelled_event_begins_or_ends_no_visit(stay):
    patient = await stay.patient()
    days = {day: await stay.claim(patient, serviceDate=f"2026-10-{day}") for day in ("01", "05", "09")}
    await stay.report(patient, "admission", "2026-10-05")
    await stay.report(patient, "discharge", "2026-10-07")  # a mistake
    await stay.report(patient, "discharge_cancelled", "2026-10-07T13:00:00Z")
    await stay.report(patient, "admission", "2026-10-08")  # another one
    await stay.report(patient, "admission_cancelled", "2026-10-08T13:00:00Z")
    assert await stay.report(patient, "discharge", "2026-10-10") == ({days["05"], days["09"]}, {})
    assert await stay.status(days["01"]) != "approved"


async def test_a_discharge_without_an_admission(stay):
    patient = await stay.patient()
    days = {day: await stay.claim(patient, serviceDate=day) for day in ("2026-10-01", "2026-10-11", "2026-10-20")}
    # The visit's first event is its first day.
    await stay.report(patient, "treatment_initiated", "2026-10-20", visitNumber="V")
    assert await stay.report(patient, "discharge", "2026-10-21", visitNumber="V") == ({days["2026-10-20"]}, {})
    assert await stay.report(patient, "discharge", "2026-11-10") == ({days["2026-10-11"]}, {})


async def test_a_treatment_without_a_provider_updates_every_claim(stay, cast):
    patient = await stay.patient()
    claims = [await stay.claim(patient, providerId=str(who)) for who in (cast.ana_provider, cast.ben_provider)]
    answer = await stay.report(patient, "treatment_initiated", "2026-11-10", providerId=str(cast.ben_provider))
    assert answer == ({claims[1]}, {})
    assert await stay.report(patient, "treatment_initiated", "2026-11-10") == ({claims[0]}, {})


async def test_claims_up_to_the_limit_are_approved(stay, as_root, cast):
    patient = await stay.patient()
    limit = 1000  # of the cast's organization
    equal, above = await stay.claim(patient, amount=limit), await stay.claim(patient, amount=limit + 0.01)
    updated, _ = await stay.report(patient, "discharge", "2026-11-10")
    assert updated == {equal, above}
    assert [await stay.status(one) for one in (equal, above)] == ["approved", "under_review"]


async def test_the_days_of_a_visit_are_in_the_organizations_time_zone(stay, as_root, cast):
    zones = {"UTC": {"10", "11"}, "Pacific/Kiritimati": {"11"}, "Pacific/Pago_Pago": {"09", "10"}}
    for zone, inside in zones.items():
        as_root.execute("update organizations set timezone = %s where organization_id = %s", [zone, cast.organization])
        patient = await stay.patient()
        days = {day: await stay.claim(patient, serviceDate=f"2026-11-{day}") for day in ("08", "09", "10", "11", "12")}
        await stay.report(patient, "admission", "2026-11-10T10:30:00Z")
        updated, _ = await stay.report(patient, "discharge", "2026-11-11T09:30:00Z")
        assert updated == {days[day] for day in inside}, zone


async def test_a_claim_that_cannot_be_updated_stops_no_other(stay, as_root, settings, cast):
    as_root.execute("alter table claims add constraint odd check (status <> 'under_review' or amount_cents <> 666)")
    patient = await stay.patient()
    good, bad = await stay.claim(patient), await stay.claim(patient, amount=6.66)
    event = await stay.event(patient)
    with as_worker(settings) as worker:
        assert run(worker, cast, event) == ("completed", 0)
    ((result,),) = as_root.execute("select result from job_processing_logs where event_id = %s", [event]).fetchall()
    assert (result["updated"], [one["id"] for one in result["failed"]]) == ([good], [bad])
