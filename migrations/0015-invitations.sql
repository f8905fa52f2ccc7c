-- Invitations by admins to join the organization in a role. The token is shown once; only its hash is stored.
set local search_path = app;
create table invitations (
    organization_id uuid not null default organization_id() references organizations,
    invitation_id uuid not null default uuid7(),
    email text not null
        constraint invitations_email_check check (length(email) between 3 and 254 and email = lower(email)),
    role text not null
        constraint invitations_role_check check (role in ('admin', 'claims_processor', 'provider', 'patient')),
    provider_id uuid
        constraint invitations_provider_check check ((provider_id is not null) = (role = 'provider')),
    patient_id uuid
        constraint invitations_patient_check check ((patient_id is not null) = (role = 'patient')),
    token_hash bytea not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null default now() + interval '7 days',
    accepted_at timestamptz,
    primary key (organization_id, invitation_id),
    constraint invitations_token_key unique (organization_id, token_hash),
    foreign key (organization_id, provider_id) references providers,
    foreign key (organization_id, patient_id) references patients
);
create index invitations_newest on invitations (organization_id, created_at desc, invitation_id desc);
create index invitations_provider on invitations (organization_id, provider_id);
create index invitations_patient on invitations (organization_id, patient_id);
alter table invitations enable row level security, force row level security;
