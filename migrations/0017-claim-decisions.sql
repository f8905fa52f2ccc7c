-- The last decision and the time of the first, so that statistics need no history. Indexes for the sort orders of lists.
set local search_path = app;
alter table claims add column decision text
    constraint claims_decision_check check (decision in ('approved', 'rejected'));
alter table claims add column first_decided_at timestamptz;
comment on column claims.decision is 'The last decision, regardless of later changes of status; null while there is none.';
comment on column claims.first_decided_at is
    'Time of the first decision; the processing time ends here. processed_at is the time of the last one.';

-- Existing rows: updated by the owner. Row-level security is not forced for this statement, under the table's lock.
alter table claims no force row level security, disable trigger user;
update claims set
    decision = case when status in ('approved', 'paid', 'reversed') then 'approved' when status = 'rejected' then 'rejected' end,
    first_decided_at = processed_at
where processed_at is not null;
alter table claims force row level security, enable trigger user;

create index claims_service_date on claims (organization_id, service_date desc, claim_id desc);
create index claims_amount on claims (organization_id, amount_cents desc, claim_id desc);
create index claims_diagnosis_newest on claims (organization_id, diagnosis_code, created_at desc, claim_id desc);
-- For prefixes of a claim number (^@). The unique key supports prefixes only in a database with collation C.
create index claims_number_prefix on claims (organization_id, claim_number text_pattern_ops);
create index claims_to_take on claims (organization_id, created_at, claim_id)
    where assigned_to is null and status in ('submitted', 'pending_info', 'appealed');
