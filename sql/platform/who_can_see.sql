-- Lists the active users who could read a row, by evaluating the policies. For each user of each organization it sets the user's context
-- and looks for the row with the rights of the user's role.
--   select * from who_can_see('claims', '0198...');                                  -- as claims_auditor
--   select * from who_can_see('care_relationships', '<provider_id>', '<patient_id>')

-- True if the current role and context can read the row with this key, e.g. {"claim_id": ...}; false if a grant is missing. The key has no
-- organization, so that users of another organization are listed too if faulty policies show them the row.
create or replace function app.row_visible(p_table regclass, p_key jsonb) returns boolean
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    is_found boolean;
begin
    execute format('select exists (select from %s where %s)', p_table,
                   (select string_agg(format('%I = %L', k.name, k.value), ' and ') from jsonb_each_text(p_key) as k (name, value)))
        into is_found;
    return is_found;
exception when insufficient_privilege then
    return false;
end
$$;

-- app.row_visible_as_<role>: the same for each product role. A definer function can't run `set role`, but it has the grants and policies of
-- its owner, claims_check_<role>, which is a member of the product role.
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

-- The columns of the table's primary key after organization_id; for organizations, organization_id itself. Raises unless it is a tenant
-- table of the schema app.
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
        raise exception using errcode = 'wrong_object_type', message = format('%s is not a tenant table of the schema app', p_table);
    end if;
    return coalesce(nullif(columns[2:], '{}'), columns);
end
$$;
grant execute on function app.tenant_key to claims_auth_definer;

-- p_key: a value for each column of app.tenant_key, in that order. Returns no rows if no user could read the row, or if there is no such
-- row. All settings of a context are in the function's own `set` clauses, so that the last user's context ends with the function.
create or replace function app.who_can_see(p_table text, variadic p_key text[])
returns table (organization_id uuid, user_id uuid, role text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp
set app.organization_id = '' set app.user_id = '' set app.session_id = '' set app.role = '' set app.provider_id = ''
set app.patient_id = '' set app.request_id = '' set app.address = '' set app.source = '' set app.mac = '' as $$
declare
    columns text[] := tenant_key(p_table);
    tenant uuid;
    candidate users;
    is_visible boolean;
begin
    if cardinality(columns) <> cardinality(p_key) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('the key of %s is (%s)', p_table, array_to_string(columns, ', '));
    end if;
    for tenant in select t.organization_id from auth.organization_lookup t order by t.organization_id loop
        perform context.establish(tenant);
        for candidate in
            select u.* from users u join organizations o on o.organization_id = u.organization_id
            where u.active and o.suspended_at is null order by u.role, u.user_id
        loop
            perform context.establish(tenant, candidate.user_id, null, candidate.role, candidate.provider_id, candidate.patient_id);
            execute format('select %I($1, $2)', replace(context.database_role(candidate.role), 'claims_', 'row_visible_as_'))
                into is_visible using p_table::regclass, jsonb_object(columns, p_key);
            if is_visible then
                return query select tenant, candidate.user_id, candidate.role;
            end if;
        end loop;
    end loop;
end
$$;
alter function app.who_can_see owner to claims_auth_definer;
grant execute on function app.who_can_see to claims_auditor;
