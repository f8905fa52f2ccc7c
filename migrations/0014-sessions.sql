-- Sessions, refresh tokens and rate limit counters. Like auth.credentials these tables are read before the organization is known. No
-- product role can read them, only claims_auth_definer (sql/functions/auth.sql).
set local search_path = app;

-- One row for each login, with its refresh tokens. Access tokens contain its id, so ending the session invalidates them at once.
create table auth.sessions (
    organization_id uuid not null,
    session_id uuid not null,
    user_id uuid not null,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    primary key (organization_id, session_id),
    foreign key (organization_id, user_id) references users on delete cascade
);
create index sessions_user on auth.sessions (organization_id, user_id, created_at);
alter table auth.sessions enable row level security, force row level security;

create table auth.refresh_tokens (
    token_hash bytea primary key,
    organization_id uuid not null,
    session_id uuid not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    replaced_at timestamptz,
    foreign key (organization_id, session_id) references auth.sessions on delete cascade
);
create index refresh_tokens_session on auth.refresh_tokens (organization_id, session_id);
alter table auth.refresh_tokens enable row level security, force row level security;
comment on column auth.refresh_tokens.token_hash is 'sha256 of 32 random bytes; the token itself is not stored.';
comment on column auth.refresh_tokens.replaced_at is 'When it was exchanged for its successor; later use ends the session.';

-- Counters of the rate limits and the login throttle. Unlogged, so that no request writes WAL for them; a crash resets them.
create unlogged table auth.rate_limits (
    subject bytea primary key,
    started_at timestamptz not null,
    used integer not null,
    granted integer not null
);
alter table auth.rate_limits enable row level security, force row level security;
comment on column auth.rate_limits.subject is 'sha256 of the subject, so that no email or address is stored.';
comment on column auth.rate_limits.granted is 'How many attempts the last call consumed.';
