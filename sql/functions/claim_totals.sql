-- Statistics of very many claims. claim_totals has totals by day and status, of each provider and of the whole organization.
-- claim_total_changes has the changes since. A writer of claims only inserts changes, in its own transaction, so that no writer waits for
-- another. A worker applies them to the totals every few seconds. The sum of both tables is exact in every snapshot, even if no worker
-- runs. sql/operations/verify_totals.sql compares it with the claims.

-- The contribution of a claim to the totals; sign: 1 to add it, -1 to subtract it.
create or replace function app.claim_contribution(c app.claims, sign integer)
returns table (organization_id uuid, provider_id uuid, service_date date, status text, count bigint, cents bigint, decided bigint,
               approved bigint, timed bigint, microseconds bigint)
language sql immutable parallel safe as $$
    select c.organization_id, c.provider_id, c.service_date, c.status, sign::bigint, sign * c.amount_cents,
           sign::bigint * (c.decision is not null)::integer, sign::bigint * (c.decision is not distinct from 'approved')::integer,
           sign::bigint * (c.first_decided_at is not null)::integer,
           sign * coalesce((extract(epoch from c.first_decided_at - c.submitted_at) * 1000000)::bigint, 0)
$$;

-- Trigger: inserts the changes of a new or updated claim. Claims can't be deleted, because their history refers to them.
create or replace function app.queue_total_change() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    no_context boolean := coalesce(current_setting('app.organization_id', true), '') = '';
begin
    if no_context then  -- an operator's statement: use the organization of the row
        perform set_config('app.organization_id', new.organization_id::text, true);
    end if;
    insert into claim_total_changes (
        organization_id, provider_id, service_date, status, count, cents, decided, approved, timed, microseconds)
    select t.* from claim_contribution(old, -1) t where tg_op = 'UPDATE'
    union all
    select t.* from claim_contribution(new, 1) t;
    if no_context then
        perform set_config('app.organization_id', '', true);
    end if;
    return null;
end
$$;
alter function app.queue_total_change owner to claims_trigger_definer;

-- Applies up to p_at_most of the oldest changes of the context's organization to its totals; returns how many. Rows whose totals become
-- zero are deleted.
create or replace function app.apply_total_changes(p_at_most integer) returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    last_id bigint;
    applied integer;
begin
    select max(first.change_id), count(*) into last_id, applied
    from (select c.change_id from claim_total_changes c order by c.change_id limit p_at_most) as first;
    if applied > 0 then
        with changes as (delete from claim_total_changes c where c.change_id <= last_id returning c.*)
        merge into claim_totals as t
        using (
            select coalesce(provider_id, organization_id()) as scope_id, service_date, status, sum(count)::bigint as count,
                   sum(cents)::bigint as cents, sum(decided)::bigint as decided, sum(approved)::bigint as approved,
                   sum(timed)::bigint as timed, sum(microseconds)::bigint as microseconds
            from changes
            group by grouping sets ((provider_id, service_date, status), (service_date, status))
        ) as d on t.scope_id = d.scope_id and t.service_date = d.service_date and t.status = d.status
        when matched and (t.count + d.count, t.cents + d.cents, t.decided + d.decided, t.approved + d.approved, t.timed + d.timed,
                          t.microseconds + d.microseconds) = (0, 0, 0, 0, 0, 0) then delete
        when matched then update
            set count = t.count + d.count, cents = t.cents + d.cents, decided = t.decided + d.decided,
                approved = t.approved + d.approved, timed = t.timed + d.timed, microseconds = t.microseconds + d.microseconds
        when not matched and (d.count, d.cents, d.decided, d.approved, d.timed, d.microseconds) <> (0, 0, 0, 0, 0, 0) then
            insert (scope_id, service_date, status, count, cents, decided, approved, timed, microseconds)
            values (d.scope_id, d.service_date, d.status, d.count, d.cents, d.decided, d.approved, d.timed, d.microseconds);
    end if;
    return applied;
end
$$;
alter function app.apply_total_changes owner to claims_trigger_definer;

-- The same for every organization, p_at_most changes of each; returns how many. Stops after one second. The random order ensures that every
-- organization is eventually served. A concurrent call returns 0 at once.
create or replace function app.apply_all_total_changes(p_at_most integer default 10000) returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    tenant uuid;
    applied integer := 0;
begin
    if not pg_try_advisory_xact_lock('claim_totals'::regclass::oid::bigint) then
        return 0;
    end if;
    for tenant in select t.organization_id from auth.organization_lookup t order by random() loop
        exit when clock_timestamp() > statement_timestamp() + interval '1 second';
        perform context.establish(tenant);
        applied := applied + apply_total_changes(p_at_most);
    end loop;
    return applied;
end
$$;
alter function app.apply_all_total_changes owner to claims_auth_definer;

-- The correct totals: those of the claims, minus the changes that are not applied yet. Of one organization, or of all.
create or replace function app.expected_totals(p_organization_id uuid default null) returns setof app.claim_totals
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select organization_id, coalesce(provider_id, organization_id) as scope_id, service_date, status, sum(count), sum(cents),
           sum(decided), sum(approved), sum(timed), sum(microseconds)
    from (
        select t.* from claims c, claim_contribution(c, 1) t
        union all
        select organization_id, provider_id, service_date, status, -count, -cents, -decided, -approved, -timed, -microseconds
        from claim_total_changes) as counted
    where organization_id = coalesce(p_organization_id, organization_id)
    group by grouping sets ((organization_id, provider_id, service_date, status), (organization_id, service_date, status))
    having (sum(count), sum(cents), sum(decided), sum(approved), sum(timed), sum(microseconds)) <> (0, 0, 0, 0, 0, 0)
    order by organization_id, scope_id, service_date, status
$$;

-- Replaces the totals by the correct ones; returns the number of rows. For an administrator, after claims were written without the triggers
-- (session_replication_role, truncate). Concurrent readers and writers do not wait: what commits later becomes a change.
-- row_security = off raises an error for a role whose rows the policies would filter.
create or replace function app.rebuild_claim_totals(p_organization_id uuid default null) returns bigint
language plpgsql set search_path = app, pg_catalog, pg_temp set row_security = off as $$
declare
    inserted bigint;
begin
    perform pg_advisory_xact_lock('claim_totals'::regclass::oid::bigint);
    delete from claim_totals t where t.organization_id = coalesce(p_organization_id, t.organization_id);
    insert into claim_totals select * from expected_totals(p_organization_id);
    get diagnostics inserted = row_count;
    return inserted;
end
$$;

-- The statistics by status for a range of service dates, for admins and providers. No rows for other roles: they can see only a few claims,
-- and their statistics count those (sql/queries/claims.sql).
create or replace function app.claim_totals_by_status(p_from date, p_to date)
returns table (status text, count bigint, cents bigint, decided bigint, approved bigint, timed bigint, seconds numeric)
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    first_day date := coalesce(p_from, '-infinity');
    last_day date := coalesce(p_to, 'infinity');
begin
    if caller_role() in ('admin', 'provider') then
        return query
        select k.status, sum(k.count)::bigint, sum(k.cents)::bigint, sum(k.decided)::bigint, sum(k.approved)::bigint,
               sum(k.timed)::bigint, sum(k.microseconds) * 0.000001
        from (
            select t.status, t.count, t.cents, t.decided, t.approved, t.timed, t.microseconds
            from claim_totals t where t.service_date between first_day and last_day
            union all
            select d.status, d.count, d.cents, d.decided, d.approved, d.timed, d.microseconds
            from claim_total_changes d where d.service_date between first_day and last_day) as k
        group by k.status;
    end if;
end
$$;

grant execute on function app.claim_contribution to claims_trigger_definer;
grant execute on function app.apply_total_changes to claims_auth_definer;
grant execute on function app.apply_all_total_changes to claims_worker;
grant execute on function app.claim_totals_by_status to claims_admin, claims_processor, claims_provider, claims_patient;
