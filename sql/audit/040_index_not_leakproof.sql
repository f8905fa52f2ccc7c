-- Under row-level security only leakproof operators become index conditions. Product roles never use an index on a type whose equality is
-- not leakproof (enum, numeric, array), on an expression, or of type GIN or GiST, and every write pays for it.
select '040 index not leakproof' as check,
       format('%I.%I: %I', n.nspname, c.relname, x.relname) as object,
       case when m.amname <> 'btree' then format('row-level security makes %s unusable', m.amname)
            when i.indkey[k.place - 1] = 0 then format('column %s is an expression', k.place)
            else format('the equality of column %s, %s, is not leakproof', k.place, o.oprcode) end as problem,
       'use uuid, text with a check, bigint, date or timestamptz in a plain column, or drop the index' as remedy
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
join pg_am m on m.oid = x.relam
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
cross join lateral generate_series(1, case m.amname when 'btree' then i.indnkeyatts else 1 end) as k (place)
join pg_opclass oc on oc.oid = i.indclass[k.place - 1]
left join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 3 and m.amname = 'btree'
    and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
left join pg_operator o on o.oid = ao.amopopr
left join pg_proc p on p.oid = o.oprcode
where n.nspname = 'app'
  and (m.amname in ('gin', 'gist', 'spgist') or m.amname = 'btree' and (i.indkey[k.place - 1] = 0 or not p.proleakproof))
order by 2, 3;
