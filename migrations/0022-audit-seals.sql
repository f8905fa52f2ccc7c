-- Seals of the audit log: hashes of entries in batches, each linked to the previous seal of its organization.
set local search_path = app;

-- written_by shows when an entry is final: if its transaction is older than every running one, no earlier entry can be added.
-- cluster_epoch counts the clusters that have held the data, because transaction ids start again where a dump is restored.
alter table audit_logs
    add column cluster_epoch integer not null default 1,
    add column written_by xid8 not null default '0',
    alter column at set default clock_timestamp();
alter table audit_logs alter column written_by set default pg_current_xact_id();
comment on column audit_logs.at is
    'When the entry was written, not when its transaction began: later than the end of all transactions that had ended by then.';

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
comment on column audit_seals.up_to is
    'The seal has the entries of its cluster_epoch by transactions before this one, except those of earlier seals.';
comment on column audit_seals.sealed_at is 'Entries of transactions after sealed_by were written later than this.';
comment on column audit_seals.hashes is 'The hash of each entry, in the order of audit_ids.';
comment on column audit_seals.digest is 'Over all columns and the digest of the previous seal; app.seal_digest().';
