-- name: process
-- Processes the event's job or its next part, and other jobs of the organization (up to :more of the patient and of others each), in one
-- transaction. Returns the job's status, how many others were processed, and whether another job of the patient waits.
select status, along, is_followed
from process_batch(:event_id, :more);

-- name: record_failure
-- Records a failed attempt, with the class of the failure only. Returns the job's new status and its attempts; no row if the job has ended.
select status, attempts
from record_job_failure(:event_id, :error, :permanent);

-- name: rescue
-- Requeues jobs whose worker is dead, or that run for too long; returns how many.
select rescue_jobs(:stalled_after, :overdue_after);

-- name: delete_old
-- Deletes up to :at_most jobs from the queue that ended that many hours ago; returns how many. job_processing_logs keeps them forever.
select delete_old_jobs(:completed_hours, :failed_hours, :at_most);

-- name: apply_totals
-- Applies the changes of claims to the totals of all organizations; returns how many.
select apply_all_total_changes();

-- name: flush_denials
-- Writes audit entries for denials that were only counted, for ended minutes of up to :at_most users.
select flush_denials(:at_most);

-- name: seal
-- Seals the final audit entries of all organizations; returns how many.
select seal_audit_logs();

-- name: audit_heads
-- The last seal of each organization.
select organization_id, number, digest
from audit_heads();

-- name: set_statement_timeout
-- Raises the time limit: sealing many entries may take longer than other jobs.
select set_config('statement_timeout', :milliseconds, true);
