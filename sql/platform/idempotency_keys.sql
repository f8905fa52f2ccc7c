-- Idempotency keys: a key is reserved and its response stored in the same transaction as the effect of the request. The functions run as
-- claims_auth_definer and use only the caller's own keys, so a stored response is returned to its own user only.
-- They are planned at each call (force_custom_plan): a plan for an organization with few keys may use any index, and PostgreSQL would reuse
-- it for an organization with thousands.

-- The limit of one organization's stored responses, in bytes. Responses stored between two measurements may exceed it.
create or replace function app.idempotency_quota() returns bigint
language sql immutable
return 64 * 1024 * 1024;

-- The last measurement for the context's organization. It has a generic plan, because each key needs two of its columns.
create or replace function app.idempotency_usage() returns auth.idempotency_usage
language plpgsql stable security definer set search_path = app, pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
    own constant uuid := organization_id();
    usage auth.idempotency_usage;
begin
    select a.* into usage from auth.idempotency_usage a where a.organization_id = own;
    return usage;
end
$$;

-- Reserves a key of the caller. No row: the key is new. A row: the stored response, and whether it was for the same body. A concurrent
-- request with the same key waits for the first one's transaction.
-- Raises QUOTA for a new key if the organization's stored responses exceed the limit; the detail has the seconds until there is space.
-- Responses that are already stored are still returned then.
create or replace function app.reserve_idempotency_key(p_path text, p_key text, p_body_hash bytea)
returns table (same boolean, status integer, headers json, body bytea)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
    caller uuid := context.variable('user_id');
    expired_before timestamptz := now() - interval '24 hours';  -- a variable: without one the statement would get a generic plan
    retry_after interval;  -- null if the organization is below its limit
begin
    -- Delete this key if it is a day old, and up to 20 other expired ones of the organization.
    delete from idempotency_keys k
    where k.user_id = caller and k.path = p_path and k.key = p_key and k.created_at < expired_before;
    -- By ctid, which can't change while the row is locked: there is no join to plan.
    delete from idempotency_keys k where k.ctid = any (array(
        select o.ctid from idempotency_keys o
        where o.created_at < expired_before order by o.created_at limit 20 for update skip locked));
    insert into idempotency_keys (user_id, path, key, body_hash) values (caller, p_path, p_key, p_body_hash)
    on conflict (organization_id, user_id, path, key) do nothing;
    if not found then
        return query
        select k.body_hash = p_body_hash, k.status, k.headers, k.body from idempotency_keys k
        where k.user_id = caller and k.path = p_path and k.key = p_key;
        return;
    end if;
    retry_after := (idempotency_usage()).full_until - now();
    if retry_after > interval '0' then
        raise exception using errcode = 'QUOTA', message = 'stored responses exceed the limit of the organization',
            detail = jsonb_build_object('retryAfter', ceil(extract(epoch from retry_after)));
    end if;
end
$$;

-- Stores the response to a reserved key, in the transaction of its effect. Measures the organization's usage if that is due.
create or replace function app.store_response(p_path text, p_key text, p_status integer, p_headers json, p_body bytea) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan as $$
begin
    update idempotency_keys k set status = p_status, headers = p_headers, body = p_body
    where k.user_id = context.variable('user_id') and k.path = p_path and k.key = p_key and k.status is null;
    if ((idempotency_usage()).measured_again > clock_timestamp()) is not true then
        perform limit_stored_responses();
    end if;
end
$$;

-- Measures the stored responses of the context's organization. Above the limit it deletes the oldest, but none of the last hour.
-- * app.store_response calls it, and not app.reserve_idempotency_key, so that a request that fails costs no measurement.
-- * One transaction at a time measures; a concurrent one continues without.
-- * The next measurement is due after 20 times the duration of this one, and 5 seconds at least: at most a twentieth of the time is spent.
-- * It stops reading at the limit and deletes at most 20,000 rows, so that a request has time for it. Later calls delete the rest.
create or replace function app.limit_stored_responses() returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set enable_sort = off as $$
declare
    started_at timestamptz := clock_timestamp();
    quota bigint := idempotency_quota();
    newest_over_quota timestamptz;  -- null if all fits
begin
    if not pg_try_advisory_xact_lock('auth.idempotency_usage'::regclass::oid::integer, hashtext(organization_id()::text)) then
        return;
    end if;
    -- Adds up the responses from the newest on and finds the first above the limit. The sizes are those on disk, with 200 bytes for the
    -- other columns; path and key count twice, because the index has them too.
    select s.created_at into newest_over_quota
    from (select k.created_at, sum(
              200 + 2 * (pg_column_size(k.path) + pg_column_size(k.key))
              + coalesce(pg_column_size(k.headers), 0) + coalesce(pg_column_size(k.body), 0))
              over (order by k.created_at desc rows unbounded preceding) as total
          from idempotency_keys k) as s
    where s.total > quota order by s.created_at desc limit 1;
    if newest_over_quota is not null then
        delete from idempotency_keys k where k.ctid = any (array(
            select o.ctid from idempotency_keys o where o.created_at <= least(newest_over_quota, now() - interval '1 hour')
            order by o.created_at limit 20000 for update skip locked));
    end if;
    insert into auth.idempotency_usage as a (organization_id, full_until, measured_again)
    values (organization_id(), newest_over_quota + interval '1 hour',
            clock_timestamp() + greatest(interval '5 seconds', 20 * (clock_timestamp() - started_at)))
    on conflict (organization_id) do update set full_until = excluded.full_until, measured_again = excluded.measured_again;
end
$$;

alter function app.reserve_idempotency_key owner to claims_auth_definer;
alter function app.store_response owner to claims_auth_definer;
alter function app.limit_stored_responses owner to claims_auth_definer;
alter function app.idempotency_usage owner to claims_auth_definer;
grant execute on function app.idempotency_quota to claims_auth_definer;
grant execute on function app.reserve_idempotency_key, app.store_response
    to claims_admin, claims_processor, claims_provider, claims_patient;
