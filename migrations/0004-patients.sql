-- Patients: insured persons, identified within the organization by their member number.
set local search_path = app;
create table patients (
    organization_id uuid not null default organization_id() references organizations,
    patient_id uuid not null default uuid7(),
    member_number text not null
        constraint patients_member_number_check check (length(member_number) between 1 and 64),
    first_name text not null
        constraint patients_first_name_check check (length(first_name) between 1 and 200),
    last_name text not null
        constraint patients_last_name_check check (length(last_name) between 1 and 200),
    date_of_birth date not null
        constraint patients_date_of_birth_check check (date_of_birth between '1875-01-01' and current_date),
    email text
        constraint patients_email_check check (length(email) between 3 and 254),
    phone text
        constraint patients_phone_check check (length(phone) between 1 and 40),
    created_at timestamptz not null default now(),
    primary key (organization_id, patient_id),
    constraint patients_member_number_key unique (organization_id, member_number)
);
create index patients_newest on patients (organization_id, created_at desc, patient_id desc);
alter table patients enable row level security, force row level security;
