-- What contexts are signed with. A key comes as the two halves that HMAC (RFC 2104) needs, each one block long; `self` is the
-- database's own, made here, and never leaves it.
create table context.keys (
    kid text primary key
        constraint keys_kid_check check (length(kid) between 1 and 64),
    inner_pad bytea not null
        constraint keys_inner_pad_check check (length(inner_pad) = 64),
    outer_pad bytea not null
        constraint keys_outer_pad_check check (length(outer_pad) = 64)
);
alter table context.keys enable row level security, force row level security;
comment on table context.keys is 'Secrets: leave it out of dumps (pg_dump --exclude-table-data=context.keys) and run make schema after a restore.';
