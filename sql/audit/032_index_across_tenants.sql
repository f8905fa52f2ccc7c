-- Every query is for one organization, so an index that does not begin with organization_id also reads entries of other organizations.
-- Left out: the schema auth, which is read before the organization is known; diagnosis_codes and claim_transitions, which are the same
-- for all organizations.
select '032 index across tenants' as check,
       format('%I.%I: %I', n.nspname, c.relname, x.relname) as object,
       format('the index doesn''t begin with organization_id: %s', pg_get_indexdef(i.indexrelid)) as problem,
       'create the index again with organization_id as its first column' as remedy
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
where n.nspname = 'app' and not i.indisunique and not i.indisexclusion and i.indkey[0] <> a.attnum
order by 2;
