-- A tenant table needs three restrictive policies (sql/platform/context.sql explains the functions):
-- 1. <table>_tenant, to PUBLIC: organization_id equals the setting. Without it a permissive policy alone decides which organization's
--    rows are visible.
-- 2. <table>_requires_context, to PUBLIC or to each role with a permissive policy: organization_id equals context.required_id. Without it
--    an invalid context raises only if a row passes the index condition, and the error reveals the row.
-- 3. <table>_context, for each role with a permissive policy: context.matches compares each row with the verified id. Without it an
--    equality of injected SQL may replace both while a statement runs. Instead, a permissive policy may compare the role's own id (user,
--    provider or patient) in this way, if a foreign key ties that id to one organization.
-- The name of <table>_requires_context must sort before <table>_tenant, because PostgreSQL applies policies by name. Of several
-- equalities on one column the planner scans by the last and checks the others once, above the scan. In the other order every scan would
-- use a value that is unknown at planning.
-- Left out: claims_trigger_definer on claims, because app.record_access, its only function that reads claims, inserts into audit_logs
-- first, whose policies verify the context; claims_context_definer, because context.begin_request, its only function, reads the user
-- before there is a context.
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
        -- Check 023 distinguishes context.required_id and context.verified_id; here they are the same.
        select replace(replace(trim(regexp_replace(expression, '\s+', ' ', 'g')), ' app.', ' '), 'verified_id', 'required_id'),
               of_found_rows
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
      and not (p.polname in ('users_context_definer', 'organizations_context_definer') and p.polcmd = 'r'
               and p.role = 'claims_context_definer'::regrole)
),
own (written) as (values ('^\(\((\w+) = context\.variable\((''\w+'')::text\)\)'
    ' AND context\.matches\(\1, \( SELECT context\.required_id\(CURRENT_USER, \2::text\) AS required_id\)\)'
    '( AND context\.differs\(\w+, ''\w+''::text\))?\)$'))
select '022 tenant table unguarded' as check, t.object,
       'has no restrictive policy to PUBLIC with organization_id = context.variable(''organization_id'')' as problem,
       format('create policy %I on %s as restrictive to public using (organization_id = context.variable(%L))',
              t.relname || '_tenant', t.object, 'organization_id') as remedy
from tenant_table t
where t.oid not in (select polrelid from tenant)
union
select '022 tenant table unguarded', t.object,
       format('has no restrictive policy to %s with organization_id = (select context.required_id(current_user)), '
              'named before the tenant policy',
              coalesce('the roles of ' || string_agg(distinct quote_ident(p.polname), ', '), 'PUBLIC')),
       format('drop policy if exists %1$I on %2$s; create policy %1$I on %2$s as restrictive to public '
              'using (organization_id = (select context.required_id(current_user))) with check (true)',
              t.relname || '_requires_context', t.object)
from tenant_table t left join opened p on p.polrelid = t.oid
where not exists (
    select from policy e
    where e.polrelid = t.oid and not e.polpermissive and e.polcmd = '*' and e.role in (0, p.role)
      and e.written = '(organization_id = ( SELECT context.required_id(CURRENT_USER) AS required_id))'
      and e.polname < all (select o.polname from tenant o where o.polrelid = t.oid))
group by t.object, t.relname
union
select '022 tenant table unguarded', t.object,
       format('%I opens rows to a role that no %I limits to the verified organization', p.polname, t.relname || '_context'),
       format('drop policy if exists %1$I on %2$s; create policy %1$I on %2$s as restrictive to public '
              'using (context.matches(organization_id, (select context.verified_id(current_user)))) '
              'with check (context.matches(organization_id, (select context.required_id(current_user))))',
              t.relname || '_context', t.object)
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
