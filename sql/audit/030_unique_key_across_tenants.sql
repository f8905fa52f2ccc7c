-- A primary or unique key that does not begin with organization_id reveals values of other organizations: a violation tells that one
-- exists.
-- Left out: the schema auth, which is read before the organization is known; the slug, an organization's public name, which must be
-- unique.
select '030 unique key across tenants' as check,
       format('%I.%I: %I', n.nspname, c.relname, x.relname) as object,
       format('the key doesn''t begin with organization_id: %s', pg_get_indexdef(i.indexrelid)) as problem,
       'create the key again with organization_id as its first column' as remedy
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where n.nspname = 'app' and (i.indisunique or i.indisexclusion) and i.indkey[0] <> a.attnum
  and (c.relname, x.relname) <> ('organizations', 'organizations_slug_key')
order by 2;
