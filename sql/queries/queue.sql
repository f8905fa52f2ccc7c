-- name: process
-- The event's effect and what became of its job, in one transaction; up to :more other jobs of the organization along with it.
-- The job's status, and how many went along.
select status, along
from process_batch(:event_id, :more);

-- name: record_failure
-- How this attempt ended, by the class of the failure only. Its status now, and the attempts so far; no row when the job is done.
select status, attempts
from record_job_failure(:event_id, :error, :permanent);

-- name: rescue
-- Jobs whose worker is gone, or that should have ended long ago, stand in the queue again; how many.
select rescue_jobs(:stalled_after, :overdue_after);

-- name: delete_old
-- Up to :at_most jobs that ended so long ago go from the queue; how many. job_processing_logs keeps them for good.
select delete_old_jobs(:completed_hours, :failed_hours, :at_most);

-- name: apply_totals
-- Changes of claims into the tallies of their organizations; how many.
select apply_all_total_changes();

-- name: flush_denials
-- Entries for the denials that were only counted in a minute that has ended; up to :at_most users.
select flush_denials(:at_most);

-- name: seal
-- Every organization's entries of the trail that are final; how many.
select seal_audit_logs();

-- name: audit_heads
-- The last seal of each organization.
select organization_id, number, digest
from audit_heads();

-- name: set_statement_timeout
-- Sealing what has piled up may take longer than a job does.
select set_config('statement_timeout', :milliseconds, true);
