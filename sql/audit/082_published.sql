-- A publication sends rows of all organizations to its subscribers, without row-level security.
with published as (
    select p.pubname, 'all tables' as what from pg_publication p where p.puballtables
    union all
    select p.pubname, format('all tables of the schema %I', n.nspname)
    from pg_publication_namespace x join pg_publication p on p.oid = x.pnpubid join pg_namespace n on n.oid = x.pnnspid
    where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate')
    union all
    select p.pubname, format('%I.%I', n.nspname, c.relname)
    from pg_publication_rel x join pg_publication p on p.oid = x.prpubid join pg_class c on c.oid = x.prrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate')
)
select '082 published' as check, format('publication %I', pubname) as object,
       'sends the rows of ' || string_agg(what, ', ' order by what) as problem,
       format('drop publication %I', pubname) as remedy
from published
group by pubname
order by 2;
