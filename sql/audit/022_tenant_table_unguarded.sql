-- A tenant table without its restrictive policy to everybody, the tenant equality; or a policy that opens its rows to a role which nobody
-- asks whether the context was really entered. Without the first a scope decides alone; without the second whoever runs SQL as the API
-- decides the tenant. <table>_signed asks, or the policy itself: for the role's own id, which a foreign key holds to one organization, or
-- for a claim that the role sees.
with tenant_table as (
    select c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname) as object
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'app' and c.relkind in ('r', 'p')
      and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped)
),
policy as (
    select p.polrelid, p.polname, p.polpermissive, p.polcmd, role, rule.written
    from pg_policy p cross join unnest(p.polroles) as role
    cross join lateral (
        select replace(trim(regexp_replace(expression, '\s+', ' ', 'g')), ' app.', ' ')
        from unnest(array[pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)]) as expression
        where expression is not null
    ) as rule (written)
),
own (written) as (values ('^\(\(\w+ = \((NULLIF\()?current_setting\(''app\.\w+''::text\)(, ''''::text\))?\)::uuid\)'
    ' AND ctx\.same\((\w+), \( SELECT ctx\.entered\(CURRENT_USER, ''\w+''::text\) AS entered\)\)( AND \(\w+ <> ''\w+''::text\))?\)$'))
select '022 tenant table unguarded' as check, t.object,
       'has no restrictive policy to everybody with organization_id = current_setting(''app.organization_id'')::uuid' as problem,
       format('create policy %I on %s as restrictive to public using (organization_id = current_setting(%L)::uuid)',
              t.relname || '_tenant', t.object, 'app.organization_id') as remedy
from tenant_table t
where not exists (
    select from policy p
    where p.polrelid = t.oid and not p.polpermissive and p.polcmd = '*' and p.role = 0
      and p.written = '(organization_id = (current_setting(''app.organization_id''::text))::uuid)')
union
select '022 tenant table unguarded', t.object,
       format('%I opens rows to a role that no %I holds to what was entered', p.polname, t.relname || '_signed'),
       format('drop policy if exists %1$I on %2$s; create policy %1$I on %2$s as restrictive to public '
              'using (case when organization_id = (select ctx.entered(current_user)) then true end)', t.relname || '_signed', t.object)
from tenant_table t join policy p on p.polrelid = t.oid and p.polpermissive cross join own
where not exists (
    select from policy s
    where s.polrelid = t.oid and not s.polpermissive and s.polcmd = '*' and s.role in (0, p.role)
      and s.written
          = 'CASE WHEN (organization_id = ( SELECT ctx.entered(CURRENT_USER) AS entered)) THEN true ELSE NULL::boolean END')
  and not exists (
    select from pg_constraint k join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
    where k.contype = 'f' and k.conrelid = t.oid and k.conkey && array(
        select o.attnum from pg_attribute o where o.attrelid = t.oid and o.attname = 'organization_id')
      and (a.attname = (regexp_match(p.written, own.written))[3]
           or a.attname = 'claim_id'
              and p.written = format('( SELECT (c.version > 0) FROM claims c WHERE (c.claim_id = %s.claim_id))', t.relname)))
order by 2, 3;
