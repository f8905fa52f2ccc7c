"""What patient events do to claims, as sql/functions/patient_status_events.sql has it: one task for the jobs of all events."""

from procrastinate import JobContext

from app.vocabulary import JOB_TYPES
from jobs import app
from jobs.execution import Retry, process_batch


@app.task(
    name="patient_status", aliases=[*JOB_TYPES.values()], queue="patient_status", retry=Retry(), pass_context=True
)
async def patient_status(context: JobContext, *, organization_id: str, event_id: str) -> str:
    """Move the patient's claims as the event says. Running it again changes nothing."""
    return await process_batch(context.job, organization_id, event_id)
