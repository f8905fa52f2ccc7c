-- A tenant table without its restrictive policies: <table>_tenant, an equality with the variable, to PUBLIC, and <table>_requires_context, one
-- with what was entered, to PUBLIC or to each role that another policy opens rows to; or a policy that opens its rows to a role which is not asked row by row whether the context was entered. Without
-- the first a scope decides alone. Without the second a context that was not entered raises only where a row passes the index condition,
-- which tells that the row is there. Without the third an expression that SQL injected as the API compares organization_id with may take
-- the place of both while a statement runs. <table>_context asks, or the policy itself: for the role's own id, which a foreign key holds to
-- one organization.
-- <table>_requires_context stands before <table>_tenant by name, as PostgreSQL sorts policies: of equalities on one column the planner scans by the
-- last and checks the others once, above the scan. The other way round every scan would be by a value that the planner does not know.
-- Left out: claims_trigger_definer on claims, because app.record_access, the only function of claims_trigger_definer that reads claims, adds an entry to
-- audit_logs before, where the context is checked; claims_context_definer, because context.begin_request, its only function, looks up the caller before there is
-- a context.
with tenant_table as (
    select c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname) as object
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'app' and c.relkind in ('r', 'p')
      and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped)
),
policy as (
    select p.polrelid, p.polname, p.polpermissive, p.polcmd, role, rule.written, rule.of_found_rows
    from pg_policy p cross join unnest(p.polroles) as role
    cross join lateral (
        -- Whether a rule asks context.required_id or context.verified_id, 023 looks at.
        select replace(replace(trim(regexp_replace(expression, '\s+', ' ', 'g')), ' app.', ' '), 'verified_id', 'required_id'), of_found_rows
        from (values (true, pg_get_expr(p.polqual, p.polrelid)), (false, pg_get_expr(p.polwithcheck, p.polrelid)))
            as e (of_found_rows, expression)
        where expression is not null
    ) as rule (written, of_found_rows)
),
tenant as (
    select p.* from policy p
    where not p.polpermissive and p.polcmd = '*' and p.role = 0
      and p.written = '(organization_id = context.variable(''organization_id''::text))'
),
opened as (
    select p.* from policy p
    where p.polpermissive
      and not (p.polname = 'claims_trigger_definer_select' and p.polcmd = 'r' and p.role = 'claims_trigger_definer'::regrole)
      and not (p.polname in ('users_context_definer', 'organizations_context_definer') and p.polcmd = 'r' and p.role = 'claims_context_definer'::regrole)
),
own (written) as (values ('^\(\((\w+) = context\.variable\((''\w+'')::text\)\)'
    ' AND context\.matches\(\1, \( SELECT context\.required_id\(CURRENT_USER, \2::text\) AS required_id\)\)( AND context\.differs\(\w+, ''\w+''::text\))?\)$'))
select '022 tenant table unguarded' as check, t.object,
       'has no restrictive policy to PUBLIC with organization_id = context.variable(''organization_id'')' as problem,
       format('create policy %I on %s as restrictive to public using (organization_id = context.variable(%L))',
              t.relname || '_tenant', t.object, 'organization_id') as remedy
from tenant_table t
where t.oid not in (select polrelid from tenant)
union
select '022 tenant table unguarded', t.object,
       format('has no restrictive policy to %s with organization_id = (select context.required_id(current_user)), named before the tenant policy',
              coalesce('the roles of ' || string_agg(distinct quote_ident(p.polname), ', '), 'PUBLIC')),
       format('drop policy if exists %1$I on %2$s; create policy %1$I on %2$s as restrictive to public '
              'using (organization_id = (select context.required_id(current_user))) with check (true)', t.relname || '_requires_context', t.object)
from tenant_table t left join opened p on p.polrelid = t.oid
where not exists (
    select from policy e
    where e.polrelid = t.oid and not e.polpermissive and e.polcmd = '*' and e.role in (0, p.role)
      and e.written = '(organization_id = ( SELECT context.required_id(CURRENT_USER) AS required_id))'
      and e.polname < all (select o.polname from tenant o where o.polrelid = t.oid))
group by t.object, t.relname
union
select '022 tenant table unguarded', t.object,
       format('%I opens rows to a role that no %I holds to what was entered', p.polname, t.relname || '_context'),
       format('drop policy if exists %1$I on %2$s; create policy %1$I on %2$s as restrictive to public '
              'using (context.matches(organization_id, (select context.verified_id(current_user)))) '
              'with check (context.matches(organization_id, (select context.required_id(current_user))))', t.relname || '_context', t.object)
from tenant_table t join opened p on p.polrelid = t.oid cross join own
where not exists (
    select from policy s
    where s.polrelid = t.oid and not s.polpermissive and s.polcmd = '*' and s.role in (0, p.role) and s.of_found_rows
      and s.written = 'context.matches(organization_id, ( SELECT context.required_id(CURRENT_USER) AS required_id))')
  and not exists (
    select from pg_constraint k join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
    where k.contype = 'f' and k.conrelid = t.oid and k.conkey && array(
        select o.attnum from pg_attribute o where o.attrelid = t.oid and o.attname = 'organization_id')
      and a.attname = (regexp_match(p.written, own.written))[1])
order by 2, 3;
