-- Tables and functions of the schema step itself (schema schema_admin). It runs first, as claims_owner.
do $$
declare
    granted record;
begin
    -- Removes all grants. This file grants again what is needed.
    for granted in
        select format('table %s', c.oid::regclass) as object, g.grantee
        from pg_class c cross join lateral aclexplode(c.relacl) g
        where c.relnamespace = 'schema_admin'::regnamespace and c.relkind <> 'S' and g.grantee <> c.relowner
        union
        select format('table %s', a.attrelid::regclass), g.grantee
        from pg_attribute a join pg_class c on c.oid = a.attrelid cross join lateral aclexplode(a.attacl) g
        where c.relnamespace = 'schema_admin'::regnamespace
        union
        select format('function %s', p.oid::regprocedure), g.grantee
        from pg_proc p cross join lateral aclexplode(p.proacl) g
        where p.pronamespace = 'schema_admin'::regnamespace and g.grantee <> p.proowner
    loop
        execute format('revoke all on %s from %s', granted.object,
                       case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
    end loop;
end
$$;
create table if not exists schema_admin.state (
    one boolean primary key default true check (one),
    files text not null,
    catalog text not null,
    applied_at timestamptz not null default now()
);
comment on table schema_admin.state is 'Digests of the files that the last schema step applied, and of the resulting catalog.';
alter table schema_admin.state add column if not exists cluster text;
comment on column schema_admin.state.cluster is
    'System identifier of the cluster of the last schema step; after a restore into another cluster it differs from the own one.';
alter table schema_admin.state add column if not exists version integer not null default 0;
alter table schema_admin.state add column if not exists compatible_version integer not null default 0;
alter table schema_admin.state add column if not exists changing_until timestamptz;
comment on column schema_admin.state.version is 'Version of the schema that the last complete schema step applied.';
comment on column schema_admin.state.compatible_version is 'Oldest version of the code that works with this schema.';
comment on column schema_admin.state.changing_until is
    'Until then a schema step may be changing the catalog, so processes do not compare it. Null after the step.';
grant select on schema_admin.state to claims_api, claims_worker, claims_auditor;

create table if not exists schema_admin.applied_files (
    path text primary key,
    digest text not null,
    functions text[] not null
);
comment on table schema_admin.applied_files is
    'Files that were applied, with the functions that each defines. A schema step applies a file if its digest differs.';

create table if not exists schema_admin.diagnosis_releases (
    valid_from date primary key check (isfinite(valid_from)),
    valid_until date not null default 'infinity' check (valid_from < valid_until),
    shipped boolean not null default false,
    codes text not null
);
create unique index if not exists diagnosis_releases_shipped on schema_admin.diagnosis_releases (shipped) where shipped;
comment on table schema_admin.diagnosis_releases is
    'Releases of ICD-10-CM as they were loaded. app.rebuild_diagnosis_codes() makes app.diagnosis_codes from them.';
comment on column schema_admin.diagnosis_releases.valid_until is 'The first day after the release.';
comment on column schema_admin.diagnosis_releases.shipped is 'The release of sql/data, which also counts on days of no other release.';
comment on column schema_admin.diagnosis_releases.codes is 'Lines of a code, t or f for billable, and a description, separated by tabs.';

-- Records this cluster's identifier. If the database was restored from another cluster, audit entries get a new cluster_epoch, because
-- transaction ids of two clusters can't be compared.
create or replace function schema_admin.note_cluster() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    here text := (select c.system_identifier from pg_control_system() c);
    noted text := (select s.cluster from schema_admin.state s);
begin
    if noted <> here then
        execute format('alter table app.audit_logs alter column cluster_epoch set default %s', app.cluster_epoch() + 1);
        -- Seals every organization in the new cluster_epoch. The restored markers are deleted, because they have transaction ids of the
        -- other cluster.
        delete from auth.unsealed_entries;
        insert into auth.unsealed_entries (organization_id) select t.organization_id from auth.organization_lookup t;
    end if;
    update schema_admin.state set cluster = here where cluster is distinct from here;
end
$$;

-- Functions of the schemas app, auth and context with the place of their row in pg_proc, which changes whenever a function is replaced or
-- granted. The schema step compares the places before and after a file to learn which functions the file defines.
create or replace function schema_admin.functions() returns table (name text, place tid)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select p.oid::regprocedure::text, p.ctid
    from pg_proc p where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)
$$;

-- Resets functions to the state of new ones: owned by claims_owner, granted to no other role. The files that follow grant them again.
-- names: null resets all functions.
create or replace function schema_admin.reset_functions(names text[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    existing record;
begin
    for existing in
        select f.name, array(
            select distinct case g.grantee when 0 then 'public' else g.grantee::regrole::text end
            from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
            where p.oid = f.name::regprocedure and g.grantee <> p.proowner) as grantees
        from schema_admin.functions() f where names is null or f.name = any (names)
    loop
        if existing.grantees <> '{}' then
            execute format('revoke execute on function %s from %s', existing.name, array_to_string(existing.grantees, ', '));
        end if;
        execute format('alter function %s owner to claims_owner', existing.name);
    end loop;
end
$$;

-- Gives functions that belong to the administrator who created them to claims_owner, so that none runs with an administrator's rights, and
-- revokes the right that PostgreSQL grants PUBLIC on each new function.
create or replace function schema_admin.adopt_functions() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    created record;
begin
    for created in
        select f.name, p.proowner = session_user::regrole as is_administrators, exists (
            select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g where g.grantee = 0) as is_public
        from schema_admin.functions() f join pg_proc p on p.oid = f.name::regprocedure
    loop
        if created.is_administrators then
            execute format('alter function %s owner to claims_owner', created.name);
        end if;
        if created.is_public then
            execute format('revoke execute on function %s from public', created.name);
        end if;
    end loop;
end
$$;

-- Drops functions that no file defines, for example those with earlier arguments. A function that a default, a check, a trigger or a policy
-- uses remains. names: null drops all that no file of applied_files defines.
create or replace function schema_admin.drop_functions(names text[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    existing record;
    dropped boolean := true;
begin
    while dropped loop
        dropped := false;
        for existing in
            select f.name from schema_admin.functions() f
            where (f.name = any (names)
                   or names is null and not exists (select from schema_admin.applied_files a where f.name = any (a.functions)))
              and not exists (
                select from pg_depend d
                where d.refclassid = 'pg_proc'::regclass and d.refobjid = f.name::regprocedure)
        loop
            execute format('drop function %s', existing.name);
            dropped := true;
        end loop;
    end loop;
end
$$;

-- Creates a composite type, or creates it again if its attributes differ. Functions that depend on the type are dropped with it; the file
-- that calls this creates them again. attributes: quoted as PostgreSQL quotes them, separated by ', '.
create or replace function schema_admin.define_type(type_name text, attributes text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    current_attributes text := (
        select string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
        from pg_type t join pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        where t.oid = to_regtype(type_name));
    dependent regprocedure;
begin
    if current_attributes is not distinct from attributes then
        return;
    end if;
    for dependent in
        select d.objid from pg_depend d
        where d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_type'::regclass and d.refobjid = to_regtype(type_name)
    loop
        execute format('drop function %s', dependent);
    end loop;
    execute format('drop type if exists %s', type_name);
    execute format('create type %s as (%s)', type_name, attributes);
    execute format('alter type %s owner to claims_owner', type_name);
end
$$;

-- The roles of sql/deploy/roles.sql, as far as they exist.
create or replace function schema_admin.our_roles() returns setof pg_roles
language sql stable set search_path = pg_catalog, pg_temp as $$
    select * from pg_roles
    where rolname ~ '^claims_(owner|system|api|worker|auditor|reporting|reporting_personal|operator)$'
       or rolname ~ '^claims_((auth|context|trigger)_definer|audit_sealer)$'
       or rolname ~ '^claims_(check_)?(admin|processor|provider|patient)$'
$$;

-- Closes a table: without policies, with forced row-level security and without grants. A policy file begins with this or with isolate, so
-- that the file is complete.
create or replace function schema_admin.close_table(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    name text;
begin
    for name in select polname from pg_policy where polrelid = target loop
        execute format('drop policy %I on %s', name, target);
    end loop;
    execute format('alter table %s enable row level security, force row level security', target);
    execute format('revoke all on %s from public, %s', target, (
        select string_agg(quote_ident(rolname), ', ') from schema_admin.our_roles() where rolname <> 'claims_owner'));
end
$$;

-- Closes a tenant table and creates its three restrictive policies. Each row must be of the organization of the context:
-- * <table>_requires_context fails every scan before it reads a row, unless a request or a job has begun a context;
-- * <table>_context compares each row with the verified organization id, by a function that the planner can't replace;
-- * <table>_tenant compares with the plain setting, for all roles. The planner uses it to choose an index.
-- context_roles: the roles of the first policy; match_roles: the roles of the second. Null: all roles. sql/audit/022 checks the result.
-- sql/platform/context.sql explains the functions.
create or replace function schema_admin.isolate(target regclass, context_roles name[] default null, match_roles name[] default null)
returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    table_name text := (select relname from pg_class where oid = target);
    to_context text := coalesce((select string_agg(quote_ident(role), ', ') from unnest(context_roles) as role), 'public');
    to_match text := coalesce((select string_agg(quote_ident(role), ', ') from unnest(match_roles) as role), to_context);
begin
    perform schema_admin.close_table(target);
    execute format('create policy %I on %s as restrictive to public using (organization_id = context.variable(''organization_id''))',
                   table_name || '_tenant', target);
    execute format('create policy %I on %s as restrictive to %s '
                   'using (organization_id = (select context.required_id(current_user))) with check (true)',
                   table_name || '_requires_context', target, to_context);
    execute format('create policy %I on %s as restrictive to %s '
                   'using (context.matches(organization_id, (select context.verified_id(current_user)))) '
                   'with check (context.matches(organization_id, (select context.required_id(current_user))))',
                   table_name || '_context', target, to_match);
end
$$;

-- Our roles, their members, and the roles that they are members of. Superusers, who are members of every role, only if they are our roles.
create or replace function schema_admin.concerned_roles() returns setof pg_roles
language sql stable set search_path = pg_catalog, pg_temp as $$
    select r.* from pg_roles r
    where r.rolname !~ '^pg_' and exists (
        select from schema_admin.our_roles() ours
        where r.oid = ours.oid
           or not r.rolsuper and not ours.rolsuper and (pg_has_role(r.oid, ours.oid, 'member') or pg_has_role(ours.oid, r.oid, 'member')))
$$;
grant execute on function schema_admin.our_roles() to claims_api, claims_worker, claims_auditor;
grant execute on function schema_admin.concerned_roles() to claims_auditor;

-- The catalog's facts that protect rows, one line each: kind and object, a colon, the value. `make check` compares the lines with those of
-- facts_applied. Facts of the whole server are included only for the roles of sql/deploy/roles.sql, because a login that an administrator
-- adds for another database must not stop the API. sql/audit checks other members of these roles, settings of extensions (auto_explain),
-- session_preload_libraries and settings for all roles.
create or replace function schema_admin.facts() returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
    with ours as (
        select oid, nspname, nspacl, nspowner from pg_namespace where nspname in ('app', 'auth', 'context', 'procrastinate', 'schema_admin')
    ),
    role as materialized (select * from schema_admin.our_roles()),
    relation as materialized (
        select c.*, c.oid::regclass::text as name
        from pg_class c join ours on ours.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    ),
    attribute as materialized (
        select format('%s.%I', r.name, a.attname) as name, a.*
        from pg_attribute a join relation r on r.oid = a.attrelid
        where a.attnum > 0 and not a.attisdropped and r.relkind <> 'S'
    ),
    acl (object, entries) as (
        select 'schema ' || nspname, coalesce(nspacl, acldefault('n', nspowner)) from ours
        union all
        select 'table ' || name, coalesce(relacl, acldefault(case relkind when 'S' then 's'::"char" else 'r' end, relowner)) from relation
        union all
        select 'column ' || name, attacl from attribute where attacl is not null
        union all
        select 'function ' || p.oid::regprocedure, coalesce(p.proacl, acldefault('f', p.proowner))
        from pg_proc p join ours on ours.oid = p.pronamespace
        union all
        select 'function ' || p.oid::regprocedure, p.proacl  -- PostgreSQL's own, where it is not as initdb left it
        from pg_proc p left join pg_init_privs i on i.objoid = p.oid and i.classoid = 'pg_proc'::regclass
        where p.pronamespace = 'pg_catalog'::regnamespace and p.proacl is distinct from i.initprivs and p.proacl is not null
        union all
        select 'table ' || c.oid::regclass, c.relacl
        from pg_class c left join pg_init_privs i on i.objoid = c.oid and i.classoid = 'pg_class'::regclass and i.objsubid = 0
        where c.relnamespace = 'pg_catalog'::regnamespace and c.relacl is distinct from i.initprivs and c.relacl is not null
        union all
        select 'language ' || lanname, coalesce(lanacl, acldefault('l', lanowner)) from pg_language
    ),
    granted as (
        select object, grantee, privilege_type, is_grantable from acl cross join lateral aclexplode(entries)
        union all
        select 'parameter ' || parname, g.grantee, g.privilege_type, g.is_grantable
        from pg_parameter_acl cross join lateral aclexplode(paracl) g join role on role.oid = g.grantee
        union all
        select 'database', g.grantee, g.privilege_type, g.is_grantable  -- without rights that a copy of the database does not have
        from pg_database d cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) g
        left join role on role.oid = g.grantee
        where d.datname = current_database()
          and (g.grantee = 0 or role.rolname <> 'claims_owner' and g.privilege_type in ('CREATE', 'TEMPORARY'))
        union all
        select format('default privileges of %s on %s', d.defaclrole::regrole,
                      concat_ws(' in ', case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                                             when 'T' then 'types' when 'n' then 'schemas' else 'large objects' end,
                                nullif(d.defaclnamespace, 0)::regnamespace)),
               g.grantee, g.privilege_type, g.is_grantable
        from pg_default_acl d cross join lateral aclexplode(d.defaclacl) g
        where g.grantee in (select 0::oid union all select oid from role) or d.defaclrole in (select oid from role)
    )
    select format('grant on %s to %s: %s', object, case grantee when 0 then 'PUBLIC' else grantee::regrole::text end,
                  string_agg(lower(privilege_type) || case when is_grantable then ' with grant option' else '' end, ', '
                             order by privilege_type collate "C", is_grantable))
    from granted group by object, grantee
    union all
    select format('schema %s: owner %s', nspname, nspowner::regrole) from ours
    union all
    select format('event trigger %s: on %s%s, enabled %s, runs %s, owner %s', evtname, evtevent, ' for ' || array_to_string(evttags, ', '),
                  evtenabled, evtfoid::regproc, evtowner::regrole)
    from pg_event_trigger
    union all
    select format('table %s: kind %s, owner %s, row security %s, forced %s%s%s', name, relkind, relowner::regrole, relrowsecurity,
                  relforcerowsecurity, case relpersistence when 'u' then ', unlogged' end, ', ' || array_to_string(reloptions, ', '))
    from relation
    union all
    select format('inheritance of %s: from %s', i.inhrelid::regclass, i.inhparent::regclass)
    from pg_inherits i join relation r on r.oid in (i.inhrelid, i.inhparent)
    union all
    select format('cast of %s to %s: %s, context %s', castsource::regtype, casttarget::regtype,
                  nullif(castfunc, 0)::regprocedure, castcontext)
    from pg_cast where oid >= 16384  -- lower oids are PostgreSQL's own
    union all
    select format('operator %s: runs %s', o.oid::regoperator, o.oprcode)
    from pg_operator o left join ours on ours.oid = o.oprnamespace
    where ours.oid is not null or o.oprnamespace = 'pg_catalog'::regnamespace and o.oid >= 16384
    union all
    select format('type %s: kind %s, owner %s%s', t.oid::regtype, t.typtype, t.typowner::regrole,
                  (select ', ' || string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid))
    from pg_type t join ours on ours.oid = t.typnamespace where t.typtype in ('d', 'e', 'r')
    union all
    select format('subscription %I: enabled %s', subname, subenabled)
    from pg_subscription where subdbid = (select oid from pg_database where datname = current_database())
    union all
    select format('column %s: %s%s%s%s', a.name, format_type(a.atttypid, a.atttypmod), case when a.attnotnull then ' not null' end,
                  ' default ' || pg_get_expr(d.adbin, d.adrelid), ' identity ' || nullif(a.attidentity::text, ''))
    from attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    union all
    select format('policy %s.%I: %s for %s to %s%s%s', r.name, p.polname,
                  case when p.polpermissive then 'permissive' else 'restrictive' end,
                  case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
                  array(select case one when 0 then 'PUBLIC' else one::regrole::text end from unnest(p.polroles) as one order by 1),
                  ' using ' || pg_get_expr(p.polqual, p.polrelid), ' with check ' || pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_policy p join relation r on r.oid = p.polrelid
    union all
    select format('function %s: owner %s, %s, volatility %s, parallel %s, cost %s%s%s%s%s, %s, arguments %s, body %s', p.oid::regprocedure,
                  p.proowner::regrole, l.lanname, p.provolatile, p.proparallel, p.procost,
                  case when p.prosecdef then ', security definer' end, case when p.proleakproof then ', leakproof' end,
                  case when p.proisstrict then ', strict' end, ', support ' || nullif(p.prosupport::oid, 0)::regproc::text,
                  array_to_string(p.proconfig, ', '), pg_get_function_arguments(p.oid),
                  md5(case when p.prosqlbody is null then p.prosrc else pg_get_function_sqlbody(p.oid) end))
    from pg_proc p join ours on ours.oid = p.pronamespace join pg_language l on l.oid = p.prolang
    union all
    select format('functions of pg_catalog: %s, body %s', count(*), md5(string_agg(
        concat_ws(' ', oid, prolang, prosecdef, proleakproof, proisstrict, procost, prosrc, proconfig, md5(pg_get_function_sqlbody(oid))),
        e'\n' order by oid)))
    from pg_proc where pronamespace = 'pg_catalog'::regnamespace
    union all
    select format('trigger %s.%I: %s %s', r.name, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid))
    from pg_trigger t join relation r on r.oid = t.tgrelid where not t.tgisinternal or t.tgenabled <> 'O'
    union all
    select format('rule %s.%I: %s %s', r.name, w.rulename, w.ev_enabled, pg_get_ruledef(w.oid))
    from pg_rewrite w join relation r on r.oid = w.ev_class
    union all
    select format('constraint %s.%I: %s', coalesce(nullif(k.conrelid, 0)::regclass::text, k.contypid::regtype::text), k.conname,
                  pg_get_constraintdef(k.oid))
    from pg_constraint k join ours on ours.oid = k.connamespace where k.contype <> 'n'
    union all
    select format('index %s: %s%s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), case when not i.indisvalid then ', invalid' end)
    from pg_index i join relation r on r.oid = i.indrelid
    union all
    select format('publication %I: all tables', pubname) from pg_publication where puballtables
    union all
    select format('publication %I of schema %s: all tables', p.pubname, ours.nspname)
    from pg_publication_namespace x join pg_publication p on p.oid = x.pnpubid join ours on ours.oid = x.pnnspid
    union all
    select format('publication %I of table %s: rows', p.pubname, r.name)
    from pg_publication_rel x join pg_publication p on p.oid = x.prpubid join relation r on r.oid = x.prrelid
    union all
    select format('role %s:%s%s%s%s%s%s%s', rolname, case when rolcanlogin then ' login' end, case when rolinherit then ' inherit' end,
                  case when rolsuper then ' superuser' end, case when rolbypassrls then ' bypassrls' end,
                  case when rolreplication then ' replication' end, case when rolcreaterole then ' createrole' end,
                  case when rolcreatedb then ' createdb' end)
    from role
    union all
    select format('membership of %s in %s: %s', m.rolname, x.roleid::regrole,
                  -- PostgreSQL 16 introduced options of a grant, and a grant for each grantor.
                  concat_ws(', ',
                            case when bool_or(coalesce((to_jsonb(x) ->> 'inherit_option')::boolean, m.rolinherit)) then 'inherits' end,
                            case when bool_or(coalesce((to_jsonb(x) ->> 'set_option')::boolean, true)) then 'may become it' end,
                            case when bool_or(x.admin_option) then 'may grant it' end))
    from pg_auth_members x join role m on m.oid = x.member
    group by m.rolname, x.roleid
    union all
    select format('setting %s of %s: %s', split_part(one.setting, '=', 1),
                  concat_ws(' in ', 'role ' || r.rolname, case when s.setdatabase <> 0 then 'this database' end),
                  substr(one.setting, strpos(one.setting, '=') + 1))
    from pg_db_role_setting s cross join lateral unnest(s.setconfig) as one (setting) left join role r on r.oid = s.setrole
    where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
      and (r.oid is not null
           or s.setrole = 0 and s.setdatabase <> 0 and one.setting !~ '^(session_preload_libraries=|(?!app\.)[^=]*\.)')
$$;

-- The digest of all facts, compared whenever a process starts.
create or replace function schema_admin.fingerprint() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select md5(string_agg(fact, e'\n' order by fact collate "C")) from schema_admin.facts() as fact
$$;
grant execute on function schema_admin.facts(), schema_admin.fingerprint() to claims_api, claims_worker, claims_auditor;

-- The facts at the end of the last schema step. Only `make check` reads them, as an administrator.
create table if not exists schema_admin.facts_applied (fact text not null);
comment on table schema_admin.facts_applied is 'The facts of the catalog at the end of the last schema step.';

-- Stores the current facts and their digest: from now on they are the expected ones.
create or replace function schema_admin.note_facts() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    delete from schema_admin.facts_applied;
    insert into schema_admin.facts_applied select schema_admin.facts();
    update schema_admin.state set changing_until = null, catalog = (
        select md5(string_agg(f.fact, e'\n' order by f.fact collate "C")) from schema_admin.facts_applied f);
end
$$;
