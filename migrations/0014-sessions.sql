-- Who is logged in where, what a session is renewed with, and how often somebody tried. Like auth.credentials these are searched
-- before there is a tenant; no product role can reach them, only claims_auth_definer (sql/functions/auth.sql).
set local search_path = app;

-- One row a login: the family of its refresh tokens. Access tokens name it, so ending it ends them at once.
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
comment on column auth.refresh_tokens.token_hash is 'sha256 of 32 random bytes; the token itself is nowhere.';
comment on column auth.refresh_tokens.replaced_at is 'When it was traded for another: from then on it is dead, and using it ends the session.';

-- Counters of the rate limits and the login throttle. Unlogged: a crash forgives everybody, and no request writes WAL for it.
create unlogged table auth.rate_limits (
    subject bytea primary key,
    started_at timestamptz not null,
    used integer not null,
    granted integer not null
);
alter table auth.rate_limits enable row level security, force row level security;
comment on column auth.rate_limits.subject is 'sha256 of what is counted; neither an email nor an address stands here.';
comment on column auth.rate_limits.granted is 'How many of those asked for the last call was given.';
