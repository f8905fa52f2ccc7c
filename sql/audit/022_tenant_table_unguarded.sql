-- A tenant table without one of its two restrictive policies to everybody: the tenant equality, or the question whether the context was
-- really entered. Without the first a scope decides alone; without the second whoever runs SQL as the API decides the tenant.
select '022 tenant table unguarded' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       'has no restrictive policy to everybody with ' || rule as problem,
       format('create policy %I on %I.%I as restrictive to public using (%s)', c.relname || suffix, n.nspname, c.relname, rule) as remedy
from pg_class c join pg_namespace n on n.oid = c.relnamespace,
     (values ('_tenant', 'organization_id = current_setting(''app.organization_id'')::uuid',
              '(organization_id = (current_setting(''app.organization_id''::text))::uuid)'),
             ('_signed', 'case when organization_id = (select ctx.entered(current_user)) then true end',
              'CASE WHEN (organization_id = ( SELECT ctx.entered(CURRENT_USER) AS entered)) THEN true ELSE NULL::boolean END')
     ) as guards (suffix, rule, written)
where n.nspname = 'app' and c.relkind in ('r', 'p')
  and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped)
  and not exists (
    select from pg_policy p
    where p.polrelid = c.oid and not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
      and trim(regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g')) = written)
order by 2, 3;
