-- An Idempotency-Key is taken and its answer kept in the transaction of the effect. Both functions run as claims_gate and know no
-- other user than the caller, so an answer is given back to nobody but whom it was for. Planned for each call: for a tenant with few
-- keys any index is as good as another, and the plan was kept for the next tenant's thousands.

create or replace function app.take_key(p_path text, p_key text, p_body_hash bytea)
returns table (same boolean, status integer, headers json, body bytea)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
    caller uuid := ctx.variable('user_id');
    dead_since timestamptz := now() - interval '24 hours';  -- a statement without a variable in it would be planned once for all
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
    end if;
end
$$;

create or replace function app.keep_answer(p_path text, p_key text, p_status integer, p_headers json, p_body bytea) returns void
language sql security definer set search_path = app, pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan as $$
    update idempotency_keys k set status = p_status, headers = p_headers, body = p_body
    where k.user_id = ctx.variable('user_id') and k.path = p_path and k.key = p_key and k.status is null
$$;

alter function app.take_key owner to claims_gate;
alter function app.keep_answer owner to claims_gate;
grant execute on function app.take_key, app.keep_answer to claims_admin, claims_processor, claims_provider, claims_patient;
