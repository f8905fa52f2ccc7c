-- A primary or unique key that doesn't begin with organization_id tells one tenant what another has: "taken" is an answer.
-- The schema auth is searched before there is a tenant. A slug is an organization's public name, unique on purpose.
select '030 unique key across tenants' as check,
       format('%I.%I: %I', n.nspname, c.relname, x.relname) as object,
       format('the key doesn''t begin with organization_id: %s', pg_get_indexdef(i.indexrelid)) as problem,
       'make the key anew with organization_id as its first column' as remedy
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where n.nspname = 'app' and (i.indisunique or i.indisexclusion) and i.indkey[0] <> a.attnum
  and (c.relname, x.relname) <> ('organizations', 'organizations_slug_key')
order by 2;
