-- Lists the active users who can read a row, and the policies that let each of them read it. The policies themselves decide: for each
-- user of each organization the function sets the user's context and looks for the row with the rights of the user's role.
--   select * from app.who_can_see('claims', '0198...');                                  -- as claims_auditor
--   select * from app.who_can_see('care_relationships', '<provider_id>', '<patient_id>')

-- Names of the permissive policies by which the current role and context read the row with this key, e.g. {"claim_id": ...}. Null if they
-- can't read it, for example because a grant is missing. All restrictive policies remain in force while a policy is tried, so its condition
-- only narrows what the role reads. Empty if no row-level security applies. "(not evaluated)" follows the name of a policy over a column
-- that the role itself can't read. The key has no organization, so that users of another organization are listed too if faulty policies
-- show them the row.
create or replace function app.row_policies(p_table regclass, p_key jsonb) returns text[]
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    by_key text := format('select exists (select from %s where %s', p_table,
                          (select string_agg(format('%I = %L', k.name, k.value), ' and ') from jsonb_each_text(p_key) as k (name, value)));
    policy record;
    is_found boolean;
    names text[] := '{}';
begin
    begin
        execute by_key || ')' into is_found;
    exception when insufficient_privilege then
        return null;
    end;
    if not is_found then
        return null;
    end if;
    for policy in
        select p.polname::text as name, pg_get_expr(p.polqual, p.polrelid) as condition
        from pg_policy p
        where p.polrelid = p_table and row_security_active(p_table) and p.polpermissive and p.polcmd in ('r', '*')
          and exists (select from unnest(p.polroles) as role where case role when 0 then true else pg_has_role(role, 'usage') end)
          and p.polqual is not null  -- a policy without a condition allows no row
        order by p.polname
    loop
        begin
            execute format('%s and (%s))', by_key, policy.condition) into is_found;
            if is_found then
                names := names || policy.name;
            end if;
        exception when insufficient_privilege then
            names := names || (policy.name || ' (not evaluated)');
        end;
    end loop;
    return names;
end
$$;

-- app.row_policies_as_<role>: the same for each product role. A definer function can't run `set role`, but it has the grants and policies
-- of its owner, claims_check_<role>, which is a member of the product role.
do $$
declare
    name text;
begin
    for name in select unnest(array['admin', 'processor', 'provider', 'patient']) loop
        execute format($f$
            create or replace function app.row_policies_as_%1$s(p_table regclass, p_key jsonb) returns text[]
            language sql security definer set search_path = app, pg_catalog, pg_temp as 'select row_policies(p_table, p_key)';
            alter function app.row_policies_as_%1$s owner to claims_check_%1$s;
            grant execute on function app.row_policies_as_%1$s to claims_auth_definer
            $f$, name);
    end loop;
end
$$;
grant execute on function app.row_policies to claims_check_admin, claims_check_processor, claims_check_provider, claims_check_patient;

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

-- p_key: a value for each column of app.tenant_key, in that order. Returns no rows if no user can read the row, or if there is no such
-- row. policies: the names that app.row_policies returns. All settings of a context are in the function's own `set` clauses, so that the
-- last user's context ends with the function. row_security is among them, because a session may have set it to off; the policies would
-- then raise an error instead of hiding rows.
create or replace function app.who_can_see(p_table text, variadic p_key text[])
returns table (organization_id uuid, user_id uuid, email text, role text, policies text[])
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set row_security = on
set app.organization_id = '' set app.user_id = '' set app.session_id = '' set app.role = '' set app.provider_id = ''
set app.patient_id = '' set app.request_id = '' set app.address = '' set app.source = '' set app.mac = '' as $$
declare
    columns text[] := tenant_key(p_table);
    tenant uuid;
    candidate users;
    names text[];
begin
    if cardinality(columns) <> cardinality(p_key) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('the key of %s is (%s)', p_table, array_to_string(columns, ', '));
    end if;
    for tenant in select t.organization_id from auth.organization_lookup t order by t.organization_id loop
        perform context.establish(tenant);
        for candidate in
            select u.* from users u join organizations o on o.organization_id = u.organization_id
            where u.active and o.suspended_at is null order by u.role, u.email
        loop
            perform context.establish(tenant, candidate.user_id, null, candidate.role, candidate.provider_id, candidate.patient_id);
            execute format('select %I($1, $2)', replace(context.database_role(candidate.role), 'claims_', 'row_policies_as_'))
                into names using p_table::regclass, jsonb_object(columns, p_key);
            if names is not null then
                return query select tenant, candidate.user_id, candidate.email, candidate.role, names;
            end if;
        end loop;
    end loop;
end
$$;
alter function app.who_can_see owner to claims_auth_definer;
grant execute on function app.who_can_see to claims_auditor;
