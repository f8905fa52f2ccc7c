-- Users, who may log in. Each request reads role, provider and patient from here, so a change applies to the user's next request.
set local search_path = app;
create table users (
    organization_id uuid not null default organization_id() references organizations,
    user_id uuid not null default uuid7(),
    email text not null
        constraint users_email_check check (length(email) between 3 and 254 and email = lower(email)),
    name text not null
        constraint users_name_check check (length(name) between 1 and 200),
    role text not null
        constraint users_role_check check (role in ('admin', 'claims_processor', 'provider', 'patient')),
    provider_id uuid
        constraint users_provider_check check ((provider_id is not null) = (role = 'provider')),
    patient_id uuid
        constraint users_patient_check check ((patient_id is not null) = (role = 'patient')),
    active boolean not null default true,
    created_at timestamptz not null default now(),
    primary key (organization_id, user_id),
    constraint users_email_key unique (organization_id, email),
    foreign key (organization_id, provider_id) references providers,
    foreign key (organization_id, patient_id) references patients
);
create index users_provider on users (organization_id, provider_id);
create index users_patient on users (organization_id, patient_id);
alter table users enable row level security, force row level security;

-- Passwords are in a table of their own, which no product role can read. It is searched across organizations, because a user who logs in
-- has no context yet; only claims_auth_definer may do that (sql/functions/auth.sql).
create table auth.credentials (
    email text not null,
    organization_id uuid not null,
    password_hash text not null,
    changed_at timestamptz not null default now(),
    primary key (email, organization_id),
    foreign key (organization_id, email) references users (organization_id, email) on update cascade on delete cascade
);
alter table auth.credentials enable row level security, force row level security;
comment on column auth.credentials.password_hash is 'argon2id, PHC string.';
