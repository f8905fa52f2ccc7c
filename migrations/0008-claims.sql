-- Claims: a provider requests payment for one day of care. Amounts are whole cents. status is text and not an enum, because only leakproof
-- operators become index conditions under row-level security.
set local search_path = app;
create table claims (
    organization_id uuid not null default organization_id() references organizations,
    claim_id uuid not null default uuid7(),
    claim_number text not null default new_claim_number()
        constraint claims_claim_number_check check (length(claim_number) between 1 and 64),
    patient_id uuid not null,
    provider_id uuid not null,
    diagnosis_code text not null,
    amount_cents bigint not null
        constraint claims_amount_check check (amount_cents between 1 and 100000000),
    approved_cents bigint
        constraint claims_approved_amount_check check (approved_cents between 0 and amount_cents),
    service_date date not null,
    status text not null default 'submitted'
        constraint claims_status_check check (status in ('draft', 'submitted', 'under_review', 'pending_info', 'approved',
                                                         'rejected', 'paid', 'appealed', 'voided', 'reversed')),
    notes text
        constraint claims_notes_check check (length(notes) <= 1000),
    denial_reason text
        constraint claims_denial_reason_check check (length(denial_reason) between 1 and 1000),
    denial_code text
        constraint claims_denial_code_check check (length(denial_code) between 1 and 20),
    assigned_to uuid,
    status_reason text
        constraint claims_status_reason_check check (length(status_reason) between 1 and 1000),
    status_event_id uuid,
    status_by uuid,
    decided_by uuid,
    submitted_at timestamptz,
    processed_at timestamptz,
    paid_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version integer not null default 1,
    primary key (organization_id, claim_id),
    constraint claims_claim_number_key unique (organization_id, claim_number),
    foreign key (organization_id, patient_id) references patients,
    foreign key (organization_id, provider_id) references providers,
    foreign key (organization_id, assigned_to) references users (organization_id, user_id)
);
create index claims_newest on claims (organization_id, created_at desc, claim_id desc);
create index claims_status_newest on claims (organization_id, status, created_at desc, claim_id desc);
create index claims_provider_newest on claims (organization_id, provider_id, created_at desc, claim_id desc);
create index claims_patient_newest on claims (organization_id, patient_id, created_at desc, claim_id desc);
create index claims_assigned_newest on claims (organization_id, assigned_to, created_at desc, claim_id desc);
alter table claims enable row level security, force row level security;
comment on column claims.service_date is 'Day of care, in the organization''s time zone.';
comment on column claims.status_reason is 'The reason for the last change of status; claim_status_history has the earlier ones.';
comment on column claims.status_event_id is 'The patient status event whose job changed the status last; null if a user did.';
comment on column claims.status_by is
    'The user who changed the status last; null if a job did, and for a claim that was only submitted.';
comment on column claims.decided_by is
    'The user who decided last; null if a job did. This user may not process an appeal of the claim.';
