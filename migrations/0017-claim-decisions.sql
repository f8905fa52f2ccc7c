-- What was decided last and when it was decided first, so that statistics need no history; and the orders a list can have.
set local search_path = app;
alter table claims add column decision text
    constraint claims_decision_check check (decision in ('approved', 'rejected'));
alter table claims add column first_decided_at timestamptz;
comment on column claims.decision is 'The last decision, whatever became of the claim since; null while there is none.';
comment on column claims.first_decided_at is 'processed_at is the last decision, this the first: how long it took to decide is counted to here.';

-- Rows that stand already: by the owner, for whom row-level security is off for this one statement under the table's lock.
alter table claims no force row level security, disable trigger user;
update claims set
    decision = case when status in ('approved', 'paid', 'reversed') then 'approved' when status = 'rejected' then 'rejected' end,
    first_decided_at = processed_at
where processed_at is not null;
alter table claims force row level security, enable trigger user;

create index claims_service_date on claims (organization_id, service_date desc, claim_id desc);
create index claims_amount on claims (organization_id, amount_cents desc, claim_id desc);
create index claims_diagnosis_newest on claims (organization_id, diagnosis_code, created_at desc, claim_id desc);
-- For what a number begins with (^@); the unique key serves the whole number only, unless the database collates as C.
create index claims_number_prefix on claims (organization_id, claim_number text_pattern_ops);
create index claims_to_take on claims (organization_id, created_at, claim_id)
    where assigned_to is null and status in ('submitted', 'pending_info', 'appealed');
