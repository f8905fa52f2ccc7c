-- Seals of the audit log, which make later changes detectable. A seal has the hashes of a batch of entries, and a digest over them and the
-- digest of the organization's previous seal. A worker calls app.seal_audit_logs every minute. It changes no entry and locks nothing that a
-- writer needs. sql/operations/verify_audit.sql compares the audit log with its seals.
-- An entry is sealed when its transaction is older than every running one, because no earlier entry can be added then.

-- The hash of an entry, over all its columns.
create or replace function app.audit_hash(a app.audit_logs) returns bytea
language sql stable set search_path = app, pg_catalog, pg_temp
return sha256(convert_to(jsonb_build_array(
    a.organization_id, a.audit_id, extract(epoch from a.at), a.actor_user_id, a.actor_role, a.action, a.entity, a.entity_id, a.patient_id,
    a.before, a.after, a.request_id, a.address, a.outcome, a.cluster_epoch, a.written_by)::text, 'UTF8'));

-- The digest of a seal. It covers the digest of the previous seal (`before`) and so all earlier seals of the organization.
create or replace function app.seal_digest(s app.audit_seals, before bytea) returns bytea
language sql stable set search_path = app, pg_catalog, pg_temp
return sha256(coalesce(before, '') || convert_to(jsonb_build_array(
    s.organization_id, s.number, s.cluster_epoch, s.up_to, s.sealed_by, extract(epoch from s.sealed_at), s.audit_ids)::text, 'UTF8')
    || (select coalesce(string_agg(hash, '' order by place), '') from unnest(s.hashes) with ordinality as h (hash, place)));

-- The cluster epoch of new entries: the default of the column, which the schema step increments after a restore into another cluster.
create or replace function app.cluster_epoch() returns integer
language sql stable set search_path = app, pg_catalog, pg_temp
return (select pg_get_expr(d.adbin, d.adrelid)::integer
        from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where a.attrelid = 'audit_logs'::regclass and a.attname = 'cluster_epoch');

-- Inserts the next seal of the context's organization.
create or replace function app.add_seal(
    p_cluster_epoch integer, p_up_to xid8, p_sealed_at timestamptz, p_audit_ids uuid[], p_hashes bytea[]) returns void
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    new audit_seals;
    previous_digest bytea;
begin
    select coalesce(max(s.number), 0) + 1 into new.number from audit_seals s;
    select s.digest into previous_digest from audit_seals s where s.number = new.number - 1;
    new.organization_id := organization_id();
    new.cluster_epoch := p_cluster_epoch;
    new.up_to := p_up_to;
    new.sealed_by := pg_current_xact_id();
    new.sealed_at := p_sealed_at;
    new.audit_ids := p_audit_ids;
    new.hashes := p_hashes;
    insert into audit_seals (number, cluster_epoch, up_to, sealed_at, audit_ids, hashes, digest)
    values (new.number, new.cluster_epoch, new.up_to, new.sealed_at, new.audit_ids, new.hashes, seal_digest(new, previous_digest));
end
$$;

-- Seals the final entries of the context's organization, in batches of about ten thousand; returns how many entries.
-- p_now: the time of the seals, taken before this transaction got its id.
-- p_horizon: all transactions with a lower id have ended, so their entries are final.
-- p_always: add a seal even if there are no new entries, because an entry could be backdated between two seals.
create or replace function app.seal_organization(p_now timestamptz, p_horizon xid8, p_always boolean) returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    last record;
    epoch integer;
    first_xid xid8;
    end_xid xid8;
    oldest_at timestamptz;
    entry record;
    previous_xid xid8;
    ids uuid[];
    hashes bytea[];
    sealed integer := 0;
begin
    select s.cluster_epoch, s.up_to into last from audit_seals s order by s.number desc limit 1;
    for epoch in coalesce(last.cluster_epoch, 1) .. cluster_epoch() loop
        first_xid := case when epoch = last.cluster_epoch then last.up_to else '0' end;
        -- Entries of an earlier cluster are all final.
        end_xid := case when epoch = cluster_epoch() then p_horizon else '18446744073709551615' end;
        -- Entries written after the previous seal can't be older than it, allowing one minute for clock corrections. This bound lets the
        -- query use the index on `at`.
        select s.sealed_at - interval '1 minute' into oldest_at from audit_seals s
        where s.cluster_epoch = epoch and s.sealed_by < first_xid order by s.number desc limit 1;
        ids := '{}';
        hashes := '{}';
        for entry in
            select a.audit_id, a.written_by, audit_hash(a) as hash from audit_logs a
            where a.at >= coalesce(oldest_at, '-infinity') and a.cluster_epoch = epoch
              and a.written_by >= first_xid and a.written_by < end_xid
            order by a.written_by, a.audit_id
        loop
            -- A batch ends between two transactions only.
            if cardinality(ids) >= 10000 and entry.written_by <> previous_xid then
                perform add_seal(epoch, entry.written_by, p_now, ids, hashes);
                ids := '{}';
                hashes := '{}';
            end if;
            ids := ids || entry.audit_id;
            hashes := hashes || entry.hash;
            previous_xid := entry.written_by;
            sealed := sealed + 1;
        end loop;
        if ids <> '{}' or epoch <> cluster_epoch() or last.up_to is null or p_always then
            perform add_seal(epoch, end_xid, p_now, ids, hashes);
        end if;
    end loop;
    return sealed;
end
$$;

-- Seals the final entries of all organizations; returns how many entries. It processes
-- * organizations with new entries: those with a marker of an ended transaction in auth.unsealed_entries;
-- * for their daily seal, organizations that had none for 20 hours: at most 20 or 1/240 of all, whichever is more. So each has a seal of
--   the last day, and no call takes long, even if all organizations were created or restored at the same time.
-- A concurrent call returns 0 at once.
create or replace function app.seal_audit_logs() returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    sealed_at timestamptz := clock_timestamp();
    horizon xid8;
    tenant record;
    sealed integer := 0;
begin
    -- The time is taken before the transaction id. So an entry of a later transaction was written after sealed_at.
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'must be the first to write in its transaction';
    end if;
    if not pg_try_advisory_xact_lock('audit_seals'::regclass::oid::bigint) then
        return 0;
    end if;
    perform pg_current_xact_id();
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    for tenant in
        with written as (
            delete from auth.unsealed_entries w where w.written_by < horizon returning w.organization_id
        ),
        daily as (
            update auth.organization_lookup t set daily_seal_at = sealed_at
            where t.organization_id = any (array(
                select d.organization_id from auth.organization_lookup d where d.daily_seal_at < sealed_at - interval '20 hours'
                order by d.daily_seal_at limit (select greatest(20, count(*) / 240) from auth.organization_lookup)))
            returning t.organization_id
        )
        select t.organization_id, t.organization_id in (select d.organization_id from daily d) as is_daily
        from auth.organization_lookup t  -- not from the markers: an organization may have been deleted since
        where t.organization_id in (
            select w.organization_id from written w union select d.organization_id from daily d)
    loop
        perform context.establish(tenant.organization_id, p_role => 'audit_sealer');
        sealed := sealed + seal_organization(sealed_at, horizon, tenant.is_daily);
    end loop;
    return sealed;
end
$$;

-- Verifies the audit log of the context's organization. Returns its first bad entry or seal, with the number of all; no row if it is
-- intact. p_heads: heads that were noted elsewhere, as any text with `organization number digest` in its lines.
create or replace function app.verify_organization(p_heads text)
returns table (object text, problem text, remedy text)
language sql stable security definer set search_path = app, pg_catalog, pg_temp as $$
    with chain as (
        select s.number, s.digest, row_number() over w as place, s.digest = seal_digest(s, lag(s.digest) over w) as fits
        from audit_seals s window w as (order by s.number)
    ),
    heads as (
        select (head)[1]::integer as number, decode((head)[2], 'hex') as digest
        from regexp_matches(p_heads, organization_id() || '\s+(\d{1,9})\s+([0-9a-f]{64})', 'g') as head
    ),
    last as (select s.number, s.cluster_epoch, s.up_to from audit_seals s order by s.number desc limit 1),
    sealed as (
        select s.number, s.sealed_at, e.*
        from audit_seals s, unnest(s.audit_ids, s.hashes) with ordinality as e (audit_id, hash, place)
    ),
    found (number, place, object, problem, remedy) as (
        select c.number, 0, format('seal %s', c.number),
               case when c.number <> c.place then 'a seal before it is gone' else 'it, or the seal before it, was changed' end,
               'compare it with a backup, and with the heads that were noted'
        from chain c where c.number <> c.place or not c.fits
        union all
        select h.number, 0, format('seal %s', h.number), 'it is not the one that was noted',
               'the audit log was rewritten from here on: compare it with a backup'
        from heads h left join chain c on c.number = h.number and c.digest = h.digest where c.number is null
        union all
        select s.number, s.place, format('audit_logs %s', coalesce(s.audit_id, a.audit_id)),
               case when a.audit_id is null then format('was deleted after it was sealed (seal %s)', s.number)
                    when s.audit_id is not null then format('was changed after it was sealed (seal %s)', s.number)
                    when (a.cluster_epoch, a.written_by) < (l.cluster_epoch, l.up_to)
                        then 'was inserted among entries that were sealed without it'
                    when a.at < noted.sealed_at - interval '1 minute'
                        then format('is dated %s, and was written after %s', a.at, noted.sealed_at)
                    when a.cluster_epoch > cluster_epoch()
                        or a.cluster_epoch = cluster_epoch() and a.written_by >= pg_snapshot_xmax(pg_current_snapshot())
                        or a.at > clock_timestamp() + interval '1 minute'
                        then 'has a time or a transaction number from the future'
                    else 'has had no seal for an hour' end,
               case when s.audit_id is not null
                    then format('restore it from a backup made after %s: its hash must be %s', s.sealed_at, encode(s.hash, 'hex'))
                    when a.at < now() - interval '1 hour'
                        and (l.number is null or (a.cluster_epoch, a.written_by) >= (l.cluster_epoch, l.up_to))
                    then 'check that a worker runs; if one did, the entry or its seals were tampered with'
                    else 'only an administrator can have written it: find out which one' end
        from sealed s
        full join audit_logs a on a.audit_id = s.audit_id
        left join last l on true
        left join lateral (
            select max(n.sealed_at) as sealed_at from audit_seals n
            where s.audit_id is null and n.cluster_epoch = a.cluster_epoch and n.sealed_by < a.written_by) as noted on true
        where s.audit_id is null
          and ((a.cluster_epoch, a.written_by) < (l.cluster_epoch, l.up_to) or a.at < noted.sealed_at - interval '1 minute'
               or a.cluster_epoch > cluster_epoch()
               or a.cluster_epoch = cluster_epoch() and a.written_by >= pg_snapshot_xmax(pg_current_snapshot())
               or a.at > clock_timestamp() + interval '1 minute' or a.at < now() - interval '1 hour')
           or a.audit_id is null
           or audit_hash(a) <> s.hash
    )
    select format('%s: %s', organization_id(), f.object),
           f.problem || case when count(*) over () > 1 then format('; the first of %s', count(*) over ()) else '' end, f.remedy
    from found f order by f.number nulls last, f.place, f.object limit 1
$$;

-- Verifies the audit logs of all organizations: the first fault of each, no rows if all are intact.
create or replace function app.verify_audit_logs(p_heads text default '')
returns table ("check" text, object text, problem text, remedy text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' set app.organization_id = '' as $$
declare
    tenant uuid;
begin
    for tenant in select t.organization_id from auth.organization_lookup t order by t.organization_id loop
        perform context.establish(tenant, p_role => 'audit_sealer');
        return query select 'verify chain'::text, v.* from verify_organization(p_heads) v;
    end loop;
end
$$;

-- The last seal of the context's organization.
create or replace function app.audit_head() returns table (organization_id uuid, number integer, digest text)
language sql stable security definer set search_path = app, pg_catalog, pg_temp as $$
    select s.organization_id, s.number, encode(s.digest, 'hex') from audit_seals s order by s.number desc limit 1
$$;

-- The last seal of every organization. Note it in a place where no writer of this database can write.
create or replace function app.audit_heads() returns table (organization_id uuid, number integer, digest text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' set app.organization_id = '' as $$
declare
    tenant uuid;
begin
    for tenant in select t.organization_id from auth.organization_lookup t order by t.organization_id loop
        perform context.establish(tenant, p_role => 'audit_sealer');
        return query select h.* from audit_head() h;
    end loop;
end
$$;

alter function app.seal_organization owner to claims_audit_sealer;
alter function app.verify_organization owner to claims_audit_sealer;
alter function app.audit_head owner to claims_audit_sealer;
alter function app.seal_audit_logs owner to claims_auth_definer;
alter function app.verify_audit_logs owner to claims_auth_definer;
alter function app.audit_heads owner to claims_auth_definer;
grant execute on function app.add_seal, app.audit_hash, app.seal_digest, app.cluster_epoch to claims_audit_sealer;
grant execute on function app.seal_organization, app.verify_organization, app.audit_head to claims_auth_definer;
grant execute on function app.seal_audit_logs to claims_worker;
grant execute on function app.audit_heads to claims_worker, claims_auditor;
grant execute on function app.verify_audit_logs to claims_auditor;
