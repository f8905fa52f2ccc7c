"""What a patient status event does to the patient's claims: one statement each, in sql/queries/jobs.sql."""

from app import sql
from jobs import app
from jobs.run import run_once

queries = sql.load("jobs")


@app.task(name="patient_admission", queue="patient_status")
async def patient_admission(*, organization_id: str, event_id: str) -> str:
    """Put the patient's submitted claims under review."""
    return await run_once(organization_id, event_id, queries.review_submitted)


@app.task(name="treatment_initiated", queue="patient_status")
async def treatment_initiated(*, organization_id: str, event_id: str) -> str:
    """The same, only for the provider that the event names."""
    return await run_once(organization_id, event_id, queries.review_treated)


@app.task(name="patient_discharge", queue="patient_status")
async def patient_discharge(*, organization_id: str, event_id: str) -> str:
    """Settle the visit's open claims: small ones are approved, the rest goes under review."""
    return await run_once(organization_id, event_id, queries.settle_visit)


@app.task(name="admission_cancelled", queue="patient_status")
async def admission_cancelled(*, organization_id: str, event_id: str) -> str:
    """Put back what the admission moved and nothing touched since."""
    return await run_once(organization_id, event_id, queries.undo_admission)


@app.task(name="discharge_cancelled", queue="patient_status")
async def discharge_cancelled(*, organization_id: str, event_id: str) -> str:
    """Reopen what the discharge approved by itself and nothing touched since."""
    return await run_once(organization_id, event_id, queries.undo_discharge)
