"""What patient events do to claims, as sql/functions/patient_status_events.sql has it: a task for each kind of event."""

from procrastinate import JobContext

from jobs import app
from jobs.execution import Retry, process_batch

KINDS = ["patient_admission", "treatment_initiated", "patient_discharge", "admission_cancelled", "discharge_cancelled"]
"""The names that jobs are enqueued under, by sql/functions/patient_status.sql."""


@app.task(name="patient_status", aliases=KINDS, queue="patient_status", retry=Retry(), pass_context=True)
async def patient_status(context: JobContext, *, organization_id: str, event_id: str) -> str:
    """Move the patient's claims as the event says. Running it again changes nothing."""
    return await process_batch(context.job, organization_id, event_id)
