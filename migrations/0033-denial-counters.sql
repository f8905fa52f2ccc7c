-- Denials of each user in the present minute: those with an audit entry, and those that are only counted.
set local search_path = app;
create table auth.denial_counters (
    organization_id uuid not null,
    user_id uuid not null,
    started_at timestamptz not null,
    recorded integer not null,
    more integer not null default 0,
    more_from timestamptz,
    more_to timestamptz,
    primary key (organization_id, user_id)
) with (fillfactor = 50);
alter table auth.denial_counters enable row level security, force row level security;
comment on column auth.denial_counters.recorded is 'Denials of this minute that have an entry of their own.';
comment on column auth.denial_counters.more is 'Further denials of this minute; they get one common entry after it.';
