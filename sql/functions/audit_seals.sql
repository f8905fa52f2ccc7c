-- The trail under seal. A worker calls seal_audit_logs every minute; it touches no entry and locks nothing that a writer needs, so none
-- waits for it. sql/operations/verify_audit.sql compares the trail with its seals.
-- An entry is sealed once its transaction is older than every one still running: then no other entry can come before it any more.

create or replace function app.audit_hash(a app.audit_logs) returns bytea
language sql stable set search_path = app, pg_catalog, pg_temp
return sha256(convert_to(jsonb_build_array(
    a.organization_id, a.audit_id, extract(epoch from a.at), a.actor_user_id, a.actor_role, a.action, a.entity, a.entity_id, a.patient_id,
    a.before, a.after, a.request_id, a.address, a.outcome, a.cluster_epoch, a.written_by)::text, 'UTF8'));

-- Over a seal and, through the digest before it, over every seal of its organization so far.
create or replace function app.seal_digest(s app.audit_seals, before bytea) returns bytea
language sql stable set search_path = app, pg_catalog, pg_temp
return sha256(coalesce(before, '') || convert_to(jsonb_build_array(
    s.organization_id, s.number, s.cluster_epoch, s.up_to, s.sealed_by, extract(epoch from s.sealed_at), s.audit_ids)::text, 'UTF8')
    || (select coalesce(string_agg(hash, '' order by place), '') from unnest(s.hashes) with ordinality as h (hash, place)));

-- Which cluster_epoch new entries are of: the column's default, which the schema step raises in another cluster.
create or replace function app.cluster_epoch() returns integer
language sql stable set search_path = app, pg_catalog, pg_temp
return (select pg_get_expr(d.adbin, d.adrelid)::integer
        from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where a.attrelid = 'audit_logs'::regclass and a.attname = 'cluster_epoch');

create or replace function app.add_seal(
    p_era integer, p_up_to xid8, p_sealed_at timestamptz, p_audit_ids uuid[], p_hashes bytea[]) returns void
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    new audit_seals;
    before bytea;
begin
    select coalesce(max(s.number), 0) + 1 into new.number from audit_seals s;
    select s.digest into before from audit_seals s where s.number = new.number - 1;
    new.organization_id := organization_id();
    new.cluster_epoch := p_era;
    new.up_to := p_up_to;
    new.sealed_by := pg_current_xact_id();
    new.sealed_at := p_sealed_at;
    new.audit_ids := p_audit_ids;
    new.hashes := p_hashes;
    insert into audit_seals (number, cluster_epoch, up_to, sealed_at, audit_ids, hashes, digest)
    values (new.number, new.cluster_epoch, new.up_to, new.sealed_at, new.audit_ids, new.hashes, seal_digest(new, before));
end
$$;

-- Seals what is final of the context's organization, in batches of about ten thousand; returns how many entries. Where there is nothing
-- a seal is still made where p_always: between two of them an entry could be dated back.
create or replace function app.seal_organization(p_now timestamptz, p_horizon xid8, p_always boolean) returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    last record;
    one_era integer;
    start xid8;
    stop xid8;
    since timestamptz;
    entry record;
    previous xid8;
    ids uuid[];
    hashes bytea[];
    sealed integer := 0;
begin
    select s.cluster_epoch, s.up_to into last from audit_seals s order by s.number desc limit 1;
    for one_era in coalesce(last.cluster_epoch, 1) .. cluster_epoch() loop
        start := case when one_era = last.cluster_epoch then last.up_to else '0' end;
        -- Of a cluster that is gone everything is final.
        stop := case when one_era = cluster_epoch() then p_horizon else '18446744073709551615' end;
        -- What has been written since cannot be older, give or take what clocks are set back by: the index finds it.
        select s.sealed_at - interval '1 minute' into since from audit_seals s
        where s.cluster_epoch = one_era and s.sealed_by < start order by s.number desc limit 1;
        ids := '{}';
        hashes := '{}';
        for entry in
            select a.audit_id, a.written_by, audit_hash(a) as hash from audit_logs a
            where a.at >= coalesce(since, '-infinity') and a.cluster_epoch = one_era and a.written_by >= start and a.written_by < stop
            order by a.written_by, a.audit_id
        loop
            if cardinality(ids) >= 10000 and entry.written_by <> previous then
                perform add_seal(one_era, entry.written_by, p_now, ids, hashes);
                ids := '{}';
                hashes := '{}';
            end if;
            ids := ids || entry.audit_id;
            hashes := hashes || entry.hash;
            previous := entry.written_by;
            sealed := sealed + 1;
        end loop;
        if ids <> '{}' or one_era <> cluster_epoch() or last.up_to is null or p_always then
            perform add_seal(one_era, stop, p_now, ids, hashes);
        end if;
    end loop;
    return sealed;
end
$$;

-- Seals what is final; returns how many entries. It visits the organizations whose entries have a marker that is final as well and, for
-- their daily seal, those that had none for 20 hours, a 240th of all at most: so none is older than a day, and no round is long, even
-- where all organizations were founded or restored at once. Of two at once the second does nothing.
create or replace function app.seal_audit_logs() returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    now_before timestamptz := clock_timestamp();
    horizon xid8;
    tenant record;
    sealed integer := 0;
begin
    -- In this order: whatever comes after this transaction was written after now_before.
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
            update auth.organization_lookup t set daily_seal_at = now_before
            where t.organization_id = any (array(
                select d.organization_id from auth.organization_lookup d where d.daily_seal_at < now_before - interval '20 hours'
                order by d.daily_seal_at limit (select greatest(20, count(*) / 240) from auth.organization_lookup)))
            returning t.organization_id
        )
        select t.organization_id, t.organization_id in (select d.organization_id from daily d) as is_daily
        from auth.organization_lookup t  -- an organization that is gone has no chain any more
        where t.organization_id in (
            select w.organization_id from written w union select d.organization_id from daily d)
    loop
        perform context.establish(tenant.organization_id, p_role => 'audit_sealer');
        sealed := sealed + seal_organization(now_before, horizon, tenant.is_daily);
    end loop;
    return sealed;
end
$$;

-- What is wrong with the trail of the context's organization: its first bad entry or seal, and how many there are; no row where all
-- is well. p_heads: any text with lines of `organization number digest`, as they were noted elsewhere.
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
               'the trail was made anew from here on: compare it with a backup'
        from heads h left join chain c on c.number = h.number and c.digest = h.digest where c.number is null
        union all
        select s.number, s.place, format('audit_logs %s', coalesce(s.audit_id, a.audit_id)),
               case when a.audit_id is null then format('was deleted after it was sealed (seal %s)', s.number)
                    when s.audit_id is not null then format('was changed after it was sealed (seal %s)', s.number)
                    when (a.cluster_epoch, a.written_by) < (l.cluster_epoch, l.up_to) then 'was inserted among entries that were sealed without it'
                    when a.at < noted.sealed_at - interval '1 minute'
                        then format('is dated %s, and was written after %s', a.at, noted.sealed_at)
                    when a.cluster_epoch > cluster_epoch() or a.cluster_epoch = cluster_epoch() and a.written_by >= pg_snapshot_xmax(pg_current_snapshot())
                        or a.at > clock_timestamp() + interval '1 minute'
                        then 'comes from the future'
                    else 'has stood for an hour without a seal' end,
               case when s.audit_id is not null
                    then format('take it from a backup made after %s: its hash must be %s', s.sealed_at, encode(s.hash, 'hex'))
                    when a.at < now() - interval '1 hour' and (l.number is null or (a.cluster_epoch, a.written_by) >= (l.cluster_epoch, l.up_to))
                    then 'see that a worker runs; where one did, the entry or its seals were tampered with'
                    else 'nobody but an administrator can have written it: ask who was' end
        from sealed s
        full join audit_logs a on a.audit_id = s.audit_id
        left join last l on true
        left join lateral (
            select max(n.sealed_at) as sealed_at from audit_seals n
            where s.audit_id is null and n.cluster_epoch = a.cluster_epoch and n.sealed_by < a.written_by) as noted on true
        where s.audit_id is null
          and ((a.cluster_epoch, a.written_by) < (l.cluster_epoch, l.up_to) or a.at < noted.sealed_at - interval '1 minute' or a.cluster_epoch > cluster_epoch()
               or a.cluster_epoch = cluster_epoch() and a.written_by >= pg_snapshot_xmax(pg_current_snapshot())
               or a.at > clock_timestamp() + interval '1 minute' or a.at < now() - interval '1 hour')
           or a.audit_id is null
           or audit_hash(a) <> s.hash
    )
    select format('%s: %s', organization_id(), f.object),
           f.problem || case when count(*) over () > 1 then format('; the first of %s', count(*) over ()) else '' end, f.remedy
    from found f order by f.number nulls last, f.place, f.object limit 1
$$;

-- The first thing that is wrong with each organization's trail; no row where all is well.
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

-- The last seal of every organization, to be noted where nobody who can write here can write.
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
