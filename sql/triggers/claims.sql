-- Triggers of claims, in the order in which they fire: `before` first, then by name.
create or replace trigger claims_10_make before insert on app.claims for each row execute function app.make_claim();
create or replace trigger claims_10_move before update of status on app.claims for each row execute function app.move_claim();
create or replace trigger claims_15_assignment before update of assigned_to on app.claims
    for each row when (old.assigned_to is distinct from new.assigned_to) execute function app.check_assignment();
create or replace trigger claims_20_touch before update on app.claims for each row execute function app.touch_claim();
create or replace trigger claims_30_record after insert or update of status on app.claims
    for each row execute function app.record_status();
create or replace trigger claims_40_link_care after insert on app.claims for each row execute function app.link_care();
-- A change that counts nowhere (notes, who works on it) leaves no trace here. The claims that stand when the triggers are made first are
-- counted in that transaction: until it ends it keeps writers out, so that none is missed between a backfill and the trigger.
do $$
declare
    is_first boolean := not exists (
        select from pg_trigger where tgrelid = 'app.claims'::regclass and tgname = 'claims_40_tally');
begin
    create or replace trigger claims_40_tally after insert on app.claims
        for each row execute function app.tally_claim();
    create or replace trigger claims_40_tally_again after update on app.claims
        for each row when (
            (old.provider_id, old.service_date, old.status, old.amount_cents, old.decision, old.submitted_at, old.first_decided_at)
            is distinct from
            (new.provider_id, new.service_date, new.status, new.amount_cents, new.decision, new.submitted_at, new.first_decided_at))
        execute function app.tally_claim();
    if is_first then
        perform app.recount_claim_tallies();
    end if;
end
$$;
create or replace trigger claims_90_audit after insert or update or delete on app.claims
    for each row execute function app.audit_row('claim_id');
