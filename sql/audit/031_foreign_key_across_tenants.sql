-- Foreign keys are checked without row-level security. If organization_id is not the first column on both sides, a row can refer to a row
-- of another organization.
-- Left out: keys to tables that are the same for all organizations.
select '031 foreign key across tenants' as check,
       format('%I.%I: %I', n.nspname, c.relname, k.conname) as object,
       format('doesn''t begin with organization_id on both sides: %s', pg_get_constraintdef(k.oid)) as problem,
       format('alter table %I.%I drop constraint %I, add foreign key (organization_id, ...) references %I.%I (organization_id, ...)',
              n.nspname, c.relname, k.conname, tn.nspname, t.relname) as remedy
from pg_constraint k
join pg_class c on c.oid = k.conrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_class t on t.oid = k.confrelid
join pg_namespace tn on tn.oid = t.relnamespace
join pg_attribute there on there.attrelid = t.oid and there.attname = 'organization_id' and not there.attisdropped
left join pg_attribute here on here.attrelid = c.oid and here.attname = 'organization_id' and not here.attisdropped
where k.contype = 'f' and tn.nspname in ('app', 'auth')
  and (k.conkey[1] is distinct from here.attnum or k.confkey[1] <> there.attnum)
order by 2;
