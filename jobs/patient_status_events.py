"""The task that applies patient events to claims. sql/functions/patient_status_events.sql defines the effect of each event type."""

from procrastinate import JobContext

from app.vocabulary import JOB_TYPES
from jobs import app
from jobs.execution import Retry, process_batch


@app.task(
    name="patient_status", aliases=[*JOB_TYPES.values()], queue="patient_status", retry=Retry(), pass_context=True
)
async def patient_status(context: JobContext, *, organization_id: str, event_id: str) -> str:
    """Changes the status of the patient's claims as the event requires. Idempotent."""
    return await process_batch(context.job, organization_id, event_id)
