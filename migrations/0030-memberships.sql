-- A login without a slug is compared with few memberships of its email: the oldest, and those whose email was proven by a mailed link.
-- Logins find an organization by its slug in organization_lookup, because they have no context yet.
set local search_path = app;
alter table auth.credentials
    add column joined_at timestamptz not null default clock_timestamp(),
    add column proven_at timestamptz;
comment on column auth.credentials.joined_at is 'When the membership began; later ones with the same email need the slug at login.';
comment on column auth.credentials.proven_at is 'When a link mailed to the address was opened; null if the email is not proven.';
alter table auth.organization_lookup add column slug text unique;
-- Existing rows: while row-level security is forced, not even the owner can read them.
alter table organizations no force row level security;
alter table users no force row level security;
alter table auth.credentials no force row level security;
alter table auth.organization_lookup no force row level security;
update auth.credentials c set joined_at = u.created_at
from users u where u.organization_id = c.organization_id and u.email = c.email;
update auth.organization_lookup t set slug = o.slug from organizations o where o.organization_id = t.organization_id;
alter table organizations force row level security;
alter table users force row level security;
alter table auth.credentials force row level security;
alter table auth.organization_lookup force row level security;
alter table auth.organization_lookup alter column slug set not null;
