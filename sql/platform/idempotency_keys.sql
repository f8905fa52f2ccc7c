-- An Idempotency-Key is taken and its answer kept in the transaction of the effect. Both functions run as claims_auth_definer and know no
-- other user than the caller, so an answer is given back to nobody but whom it was for. Planned for each call: for a tenant with few
-- keys any index is as good as another, and the plan was kept for the next tenant's thousands.

-- Bytes that the answers kept for one organization may take, give or take what is kept between two measurements.
create or replace function app.idempotency_quota() returns bigint
language sql immutable
return 64 * 1024 * 1024;

-- The result of the last measurement of the context's organization. Two of its columns are asked for each key; planned once, not each time.
create or replace function app.idempotency_usage() returns auth.idempotency_usage
language plpgsql stable security definer set search_path = app, pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
    own constant uuid := organization_id();
    found_one auth.idempotency_usage;
begin
    select a.* into found_one from auth.idempotency_usage a where a.organization_id = own;
    return found_one;
end
$$;

-- No row: the key is the caller's to use. A row: the first answer. Raises QUOTA for a new key where what the organization keeps does not
-- fit, and says when it will; what is kept already is given back all the same.
create or replace function app.reserve_idempotency_key(p_path text, p_key text, p_body_hash bytea)
returns table (same boolean, status integer, headers json, body bytea)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
    caller uuid := context.variable('user_id');
    dead_since timestamptz := now() - interval '24 hours';  -- a statement without a variable in it would be planned once for all
    waits interval;  -- null where all fits
begin
    -- This key's own answer once its day is over, and a few others of the organization.
    delete from idempotency_keys k
    where k.user_id = caller and k.path = p_path and k.key = p_key and k.created_at < dead_since;
    -- By their places, which the locks keep: no join to be planned.
    delete from idempotency_keys k where k.ctid = any (array(
        select o.ctid from idempotency_keys o
        where o.created_at < dead_since order by o.created_at limit 20 for update skip locked));
    insert into idempotency_keys (user_id, path, key, body_hash) values (caller, p_path, p_key, p_body_hash)
    on conflict (organization_id, user_id, path, key) do nothing;
    if not found then
        return query
        select k.body_hash = p_body_hash, k.status, k.headers, k.body from idempotency_keys k
        where k.user_id = caller and k.path = p_path and k.key = p_key;
        return;
    end if;
    waits := (idempotency_usage()).full_until - now();
    if waits > interval '0' then
        raise exception using errcode = 'QUOTA', message = 'too many answers are kept',
            detail = jsonb_build_object('retryAfter', ceil(extract(epoch from waits)));
    end if;
end
$$;

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

-- Measures what is kept of the context's organization and, past the quota, lets the oldest go, but none of the last hour. In store_response and
-- not where a key is taken, so that a request that fails in the end costs no measurement. By one transaction at a time; another one goes
-- on without. At most a twentieth of the time. It stops reading at the quota, and removes 20,000 at most, so that a request has the time for
-- it; the rest goes the next times.
create or replace function app.limit_stored_responses() returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set enable_sort = off as $$
declare
    began timestamptz := clock_timestamp();
    quota bigint := idempotency_quota();
    none_after timestamptz;
begin
    if not pg_try_advisory_xact_lock('auth.idempotency_usage'::regclass::oid::integer, hashtext(organization_id()::text)) then
        return;
    end if;
    -- The newest answer that does not fit any more beside the newer ones. The sizes are of what stands on disk, with 200 bytes for the
    -- other columns; path and key stand in the index, too.
    select s.created_at into none_after
    from (select k.created_at, sum(
              200 + 2 * (pg_column_size(k.path) + pg_column_size(k.key))
              + coalesce(pg_column_size(k.headers), 0) + coalesce(pg_column_size(k.body), 0))
              over (order by k.created_at desc rows unbounded preceding) as total
          from idempotency_keys k) as s
    where s.total > quota order by s.created_at desc limit 1;
    if none_after is not null then
        delete from idempotency_keys k where k.ctid = any (array(
            select o.ctid from idempotency_keys o where o.created_at <= least(none_after, now() - interval '1 hour')
            order by o.created_at limit 20000 for update skip locked));
    end if;
    insert into auth.idempotency_usage as a (organization_id, full_until, measured_again)
    values (organization_id(), none_after + interval '1 hour',
            clock_timestamp() + greatest(interval '5 seconds', 20 * (clock_timestamp() - began)))
    on conflict (organization_id) do update set full_until = excluded.full_until, measured_again = excluded.measured_again;
end
$$;

alter function app.reserve_idempotency_key owner to claims_auth_definer;
alter function app.store_response owner to claims_auth_definer;
alter function app.limit_stored_responses owner to claims_auth_definer;
alter function app.idempotency_usage owner to claims_auth_definer;
grant execute on function app.idempotency_quota to claims_auth_definer;
grant execute on function app.reserve_idempotency_key, app.store_response to claims_admin, claims_processor, claims_provider, claims_patient;
