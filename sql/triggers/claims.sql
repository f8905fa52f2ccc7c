-- Triggers of claims, in the order in which they fire: `before` triggers first, then by name.
-- Validates a new claim and normalizes its diagnosis code.
create or replace trigger claims_10_validate before insert on app.claims for each row execute function app.validate_new_claim();
-- Rejects an illegal change of status and sets the columns that depend on the status.
create or replace trigger claims_10_transition before update of status on app.claims for each row execute function app.apply_transition();
-- Rejects an assignment to a user who is not an active processor.
create or replace trigger claims_15_assignment before update of assigned_to on app.claims
    for each row when (old.assigned_to is distinct from new.assigned_to) execute function app.check_assignment();
-- Increments the version; rejects changes of the notes of a decided claim.
create or replace trigger claims_20_version before update on app.claims for each row execute function app.bump_claim_version();
-- Adds the status to claim_status_history.
create or replace trigger claims_30_status_history after insert or update of status on app.claims
    for each row execute function app.record_status_change();
-- Checks the assignment again after the foreign key has waited for a change of the user.
create or replace trigger claims_35_assignment after update of assigned_to on app.claims
    for each row when (old.assigned_to is distinct from new.assigned_to) execute function app.check_assignment();
-- Adds the care relationship of the claim's provider and patient.
create or replace trigger claims_40_care_relationship after insert on app.claims for each row execute function app.add_care_relationship();
-- Record the changes of statistics in claim_total_changes. An update of columns that are not counted (notes, assignee) records nothing.
-- When the triggers are first created, existing claims are counted in the same transaction. Creating a trigger blocks writers until
-- commit, so no claim is missed.
do $$
declare
    is_first boolean := not exists (
        select from pg_trigger where tgrelid = 'app.claims'::regclass and tgname = 'claims_40_totals');
begin
    create or replace trigger claims_40_totals after insert on app.claims
        for each row execute function app.queue_total_change();
    create or replace trigger claims_40_totals_update after update on app.claims
        for each row when (
            (old.provider_id, old.service_date, old.status, old.amount_cents, old.decision, old.submitted_at, old.first_decided_at)
            is distinct from
            (new.provider_id, new.service_date, new.status, new.amount_cents, new.decision, new.submitted_at, new.first_decided_at))
        execute function app.queue_total_change();
    if is_first then
        perform app.rebuild_claim_totals();
    end if;
end
$$;
-- Audit entry for each change.
create or replace trigger claims_90_audit after insert or update or delete on app.claims
    for each row execute function app.audit_row('claim_id');
