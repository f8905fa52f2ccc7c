-- `using (true)` shows the rows of one organization only if a restrictive policy limits them to it. Otherwise it shows those of all. The
-- tenant policy must be restrictive, to PUBLIC, for all commands, and the equality alone or "equality and ...": nothing may widen it.
-- Left out: diagnosis_codes and claim_transitions, which are the same for all organizations and have no organization_id; the schema auth,
-- which is read before the organization is known and only by definer functions.
with tenant_policies as (
    select p.polrelid
    from pg_policy p,
         lateral (select pg_get_expr(p.polqual, p.polrelid) as rule, pg_get_expr(p.polwithcheck, p.polrelid) as written) e,
         (values ('(organization_id = context.variable(''organization_id''::text))')) as t (equality)
    where not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
      and (e.rule = t.equality or starts_with(e.rule, '(' || t.equality || ' AND '))
      and (e.written is null or e.written = t.equality or starts_with(e.written, '(' || t.equality || ' AND '))
)
select '021 always true policy' as check,
       format('%I.%I: %I', n.nspname, c.relname, p.polname) as object,
       'is true for every row, and no restrictive policy limits rows to the organization' as problem,
       format('create policy %I on %I.%I as restrictive to public using (organization_id = context.variable(%L))',
              c.relname || '_tenant', n.nspname, c.relname, 'organization_id') as remedy
from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'app' and p.polpermissive
  and 'true' in (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped)
  and p.polrelid not in (select polrelid from tenant_policies)
order by 2;
