-- Events of a patient (admission, treatment, discharge), as the provider's system reported them.
set local search_path = app;
create table patient_status_events (
    organization_id uuid not null default organization_id() references organizations,
    event_id uuid not null default uuid7(),
    patient_id uuid not null,
    provider_id uuid,
    event_type text not null
        constraint patient_status_events_event_type_check check (event_type in (
            'admission', 'discharge', 'treatment_initiated', 'admission_cancelled', 'discharge_cancelled')),
    occurred_at timestamptz not null,
    visit_number text
        constraint patient_status_events_visit_number_check check (length(visit_number) between 1 and 64),
    facility text
        constraint patient_status_events_facility_check check (length(facility) between 1 and 200),
    notes text
        constraint patient_status_events_notes_check check (length(notes) <= 1000),
    idempotency_key text
        constraint patient_status_events_idempotency_key_check check (length(idempotency_key) between 1 and 255),
    created_at timestamptz not null default now(),
    primary key (organization_id, event_id),
    constraint patient_status_events_idempotency_key_key unique (organization_id, idempotency_key),
    foreign key (organization_id, patient_id) references patients,
    foreign key (organization_id, provider_id) references providers
);
create index patient_status_events_newest
    on patient_status_events (organization_id, patient_id, created_at desc, event_id desc);
alter table patient_status_events enable row level security, force row level security;
comment on column patient_status_events.occurred_at is 'When it happened; created_at is when it was reported.';
