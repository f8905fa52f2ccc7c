-- Triggers of claims, in the order in which they fire: `before` first, then by name.
create or replace trigger claims_10_validate before insert on app.claims for each row execute function app.validate_new_claim();
create or replace trigger claims_10_transition before update of status on app.claims for each row execute function app.apply_transition();
create or replace trigger claims_15_assignment before update of assigned_to on app.claims
    for each row when (old.assigned_to is distinct from new.assigned_to) execute function app.check_assignment();
create or replace trigger claims_20_version before update on app.claims for each row execute function app.bump_claim_version();
create or replace trigger claims_30_status_history after insert or update of status on app.claims
    for each row execute function app.record_status_change();
create or replace trigger claims_40_care_relationship after insert on app.claims for each row execute function app.add_care_relationship();
-- A change that counts nowhere (notes, who works on it) leaves no trace here. The claims that stand when the triggers are made first are
-- counted in that transaction: until it ends it keeps writers out, so that none is missed between a backfill and the trigger.
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
create or replace trigger claims_90_audit after insert or update or delete on app.claims
    for each row execute function app.audit_row('claim_id');
