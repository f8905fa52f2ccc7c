-- Keys that sign contexts (sql/platform/context.sql). A key is stored as the two padded blocks of HMAC (RFC 2104). `self` is the
-- database's own key: it is generated here and never leaves the database.
create table context.keys (
    kid text primary key
        constraint keys_kid_check check (length(kid) between 1 and 64),
    inner_pad bytea not null
        constraint keys_inner_pad_check check (length(inner_pad) = 64),
    outer_pad bytea not null
        constraint keys_outer_pad_check check (length(outer_pad) = 64)
);
alter table context.keys enable row level security, force row level security;
comment on table context.keys is
    'Secrets: exclude the data from dumps (pg_dump --exclude-table-data=context.keys); run make schema after a restore.';
