-- Every query is inside one tenant: an index that doesn't begin with organization_id reads the other tenants' entries as well.
-- The schema auth is searched before there is a tenant; diagnosis_codes and claim_transitions are the same for all.
select '032 index across tenants' as check,
       format('%I.%I: %I', n.nspname, c.relname, x.relname) as object,
       format('the index doesn''t begin with organization_id: %s', pg_get_indexdef(i.indexrelid)) as problem,
       'make the index anew with organization_id as its first column' as remedy
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where n.nspname = 'app' and not i.indisunique and not i.indisexclusion and i.indkey[0] <> a.attnum
order by 2;
