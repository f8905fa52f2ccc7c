-- The trail under seal: a hash of every entry, in batches, each chained to the one before it in its organization.
set local search_path = app;

-- Which transaction wrote an entry says when it is final: a transaction older than every one that still runs adds nothing any more.
-- The cluster_epoch counts the clusters that the data has lived in, since transactions are numbered anew where a dump is restored.
alter table audit_logs
    add column cluster_epoch integer not null default 1,
    add column written_by xid8 not null default '0',
    alter column at set default clock_timestamp();
alter table audit_logs alter column written_by set default pg_current_xact_id();
comment on column audit_logs.at is 'When the entry was written; never before the transactions that had ended by then.';

create table audit_seals (
    organization_id uuid not null default organization_id() references organizations,
    number integer not null
        constraint audit_seals_number_check check (number > 0),
    cluster_epoch integer not null,
    up_to xid8 not null,
    sealed_by xid8 not null default pg_current_xact_id(),
    sealed_at timestamptz not null,
    audit_ids uuid[] not null,
    hashes bytea[] not null,
    digest bytea not null,
    primary key (organization_id, number)
);
alter table audit_seals enable row level security, force row level security;
comment on column audit_seals.up_to is 'It holds the entries of its cluster_epoch by transactions before this one that no seal before it holds.';
comment on column audit_seals.sealed_at is 'Whatever was written by a transaction after sealed_by was written later than this.';
comment on column audit_seals.hashes is 'Of each entry, in the order of audit_ids.';
comment on column audit_seals.digest is 'Over all of it and the digest of the seal before; app.seal_digest().';
