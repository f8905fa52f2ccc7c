-- What the schema step itself needs; run first, as claims_owner.
create table if not exists schema_admin.state (
    one boolean primary key default true check (one),
    files text not null,
    catalog text not null,
    applied_at timestamptz not null default now()
);
comment on table schema_admin.state is 'Digest of the files that were applied, and of the catalog they made.';
alter table schema_admin.state add column if not exists cluster text;
comment on column schema_admin.state.cluster is 'Where it was applied: a dump brings along that of another cluster.';
grant select on schema_admin.state to claims_api, claims_worker, claims_auditor;

-- Notes this cluster. Another one numbers its transactions anew, so the entries of the trail begin a new era there.
create or replace function schema_admin.note_cluster() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    here text := (select c.system_identifier from pg_control_system() c);
    noted text := (select s.cluster from schema_admin.state s);
begin
    if noted <> here then
        execute format('alter table app.audit_logs alter column era set default %s', app.audit_era() + 1);
    end if;
    update schema_admin.state set cluster = here where cluster is distinct from here;
end
$$;

-- A policy file begins with this, so that the file is the whole truth about its table.
create or replace function schema_admin.drop_policies(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    name text;
begin
    for name in select polname from pg_policy where polrelid = target loop
        execute format('drop policy %I on %s', name, target);
    end loop;
end
$$;

-- A digest of everything that guards a row: tables, policies, grants, functions, triggers, constraints.
create or replace function schema_admin.fingerprint() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    with ours as (
        select oid, nspname, nspacl from pg_namespace where nspname in ('app', 'auth', 'ctx', 'procrastinate', 'schema_admin')
    ),
    facts (fact) as (
        select format('schema %s %s', nspname, nspacl) from ours
        union all
        select format('table %s %s %s %s %s %s %s', c.oid::regclass, c.relkind, c.relowner::regrole, c.relrowsecurity,
                      c.relforcerowsecurity, c.relacl, c.reloptions)
        from pg_class c join ours on ours.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S')
        union all
        select format('column %s %s %s %s', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attacl)
        from pg_attribute a join pg_class c on c.oid = a.attrelid join ours on ours.oid = c.relnamespace
        where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm')
        union all
        select format('policy %s.%s %s %s %s %s %s %s', schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check)
        from pg_policies where schemaname in (select nspname from ours)
        union all
        select format('function %s %s %s %s %s %s', p.oid::regprocedure, p.proowner::regrole, p.prosecdef, p.proconfig, p.proacl,
                      coalesce(md5(pg_get_function_sqlbody(p.oid)), md5(p.prosrc)))
        from pg_proc p join ours on ours.oid = p.pronamespace
        union all
        select format('trigger %s %s %s', t.tgrelid::regclass, t.tgenabled, pg_get_triggerdef(t.oid))
        from pg_trigger t join pg_class c on c.oid = t.tgrelid join ours on ours.oid = c.relnamespace where not t.tgisinternal
        union all
        select format('constraint %s %s %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
        from pg_constraint k join ours on ours.oid = k.connamespace where k.contype <> 'n'
        union all
        select format('index %s', pg_get_indexdef(i.indexrelid))
        from pg_index i join pg_class c on c.oid = i.indrelid join ours on ours.oid = c.relnamespace
    )
    select md5(string_agg(fact, e'\n' order by fact collate "C")) from facts
$$;
grant execute on function schema_admin.fingerprint() to claims_api, claims_worker, claims_auditor;
