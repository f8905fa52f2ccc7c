"""The Procrastinate app. `procrastinate worker` runs it if PROCRASTINATE_APP=jobs.app."""

from app.config import read_settings
from jobs.worker import HEARTBEAT_S, STALLED_AFTER_S, App, connector

app = App(
    connector=connector(read_settings(need=("worker_database_url",))),
    import_paths=["jobs.patient_status_events", "jobs.audit_logs", "jobs.maintenance"],
    worker_defaults={
        "concurrency": 4,
        # Retries and requeued jobs send no NOTIFY, so this interval bounds how late they start.
        "fetch_job_polling_interval": 0.25,
        "update_heartbeat_interval": HEARTBEAT_S,
        "stalled_worker_timeout": STALLED_AFTER_S,
        # Longer than any job may run. After SIGTERM, running jobs finish; none is aborted.
        "shutdown_graceful_timeout": 20.0,
    },
)
