"""The task that applies patient events to claims. sql/functions/patient_status_events.sql defines the effect of each event type."""

from procrastinate import JobContext

from jobs import app
from jobs.execution import Retry, process_batch

KINDS = ["patient_admission", "treatment_initiated", "patient_discharge", "admission_cancelled", "discharge_cancelled"]
"""The task names under which sql/functions/patient_status_events.sql enqueues jobs, one for each event type."""


@app.task(name="patient_status", aliases=KINDS, queue="patient_status", retry=Retry(), pass_context=True)
async def patient_status(context: JobContext, *, organization_id: str, event_id: str) -> str:
    """Changes the status of the patient's claims as the event requires. Idempotent."""
    return await process_batch(context.job, organization_id, event_id)
