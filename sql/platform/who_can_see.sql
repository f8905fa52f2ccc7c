-- Who could read a row: the auditor's question, answered by the policies themselves. For each active user of each tenant the user's
-- context is assumed, and a function that runs with the user's role looks for the row.
--   select * from who_can_see('claims', '0198...');                                  -- as claims_auditor
--   select * from who_can_see('care_relationships', '<provider_id>', '<patient_id>')

-- Whether whoever asks finds the row with this key, {"claim_id": ...}. No, where a grant is missing. The key names no organization:
-- should the policies let another tenant's users see the row, the answer has them.
create or replace function app.row_visible(p_table regclass, p_key jsonb) returns boolean
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    found_one boolean;
begin
    execute format('select exists (select from %s where %s)', p_table,
                   (select string_agg(format('%I = %L', k.name, k.value), ' and ') from jsonb_each_text(p_key) as k (name, value)))
        into found_one;
    return found_one;
exception when insufficient_privilege then
    return false;
end
$$;

-- The same as each product role. A definer function can't change role; but it has its owner's grants and policies.
do $$
declare
    name text;
begin
    for name in select unnest(array['admin', 'processor', 'provider', 'patient']) loop
        execute format($f$
            create or replace function app.row_visible_as_%1$s(p_table regclass, p_key jsonb) returns boolean
            language sql security definer set search_path = app, pg_catalog, pg_temp as 'select row_visible(p_table, p_key)';
            alter function app.row_visible_as_%1$s owner to claims_check_%1$s;
            grant execute on function app.row_visible_as_%1$s to claims_auth_definer
            $f$, name);
    end loop;
end
$$;
grant execute on function app.row_visible to claims_check_admin, claims_check_processor, claims_check_provider, claims_check_patient;

-- The columns of the table's primary key after organization_id; of organizations that one. Raises unless it is a table of the schema
-- app whose rows belong to a tenant.
create or replace function app.tenant_key(p_table text) returns text[]
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    columns text[] := (
        select array_agg(a.attname order by k.place)
        from pg_index i join pg_class c on c.oid = i.indrelid
        cross join lateral unnest(i.indkey) with ordinality as k (attnum, place)
        join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
        where c.oid = to_regclass(p_table) and c.relnamespace = 'app'::regnamespace and i.indisprimary and k.place <= i.indnkeyatts);
begin
    if columns[1] is distinct from 'organization_id' then
        raise exception using errcode = 'wrong_object_type', message = format('%s is no tenant table of the schema app', p_table);
    end if;
    return coalesce(nullif(columns[2:], '{}'), columns);
end
$$;
grant execute on function app.tenant_key to claims_auth_definer;

-- p_key: the columns of tenant_key, in their order. No rows: nobody, or no such row. Every variable of a context is among the
-- function's own settings, so that the last user's ends with it.
create or replace function app.who_can_see(p_table text, variadic p_key text[])
returns table (organization_id uuid, user_id uuid, role text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set app.organization_id = '' set app.user_id = '' set app.session_id = '' set app.role = '' set app.provider_id = ''
set app.patient_id = '' set app.request_id = '' set app.address = '' set app.source = '' set app.mac = '' as $$
declare
    columns text[] := tenant_key(p_table);
    tenant uuid;
    who users;
    sees boolean;
begin
    if cardinality(columns) <> cardinality(p_key) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('the key of %s is (%s)', p_table, array_to_string(columns, ', '));
    end if;
    for tenant in select t.organization_id from auth.organization_lookup t order by t.organization_id loop
        perform context.establish(tenant);
        for who in
            select u.* from users u join organizations o on o.organization_id = u.organization_id
            where u.active and o.suspended_at is null order by u.role, u.user_id
        loop
            perform context.establish(tenant, who.user_id, null, who.role, who.provider_id, who.patient_id);
            execute format('select %I($1, $2)', replace(context.database_role(who.role), 'claims_', 'row_visible_as_')) into sees
                using p_table::regclass, jsonb_object(columns, p_key);
            if sees then
                return query select tenant, who.user_id, who.role;
            end if;
        end loop;
    end loop;
end
$$;
alter function app.who_can_see owner to claims_auth_definer;
grant execute on function app.who_can_see to claims_auditor;
