-- A rule rewrites a statement before policies and triggers apply: it can discard a write, or replace it by a statement with the rights of
-- the table's owner. Our tables have none.
-- Left out: the rule that defines a view.
select '122 rule' as check,
       format('%I.%I: %I', n.nspname, c.relname, r.rulename) as object,
       format('rewrites each %s', case r.ev_type when '1' then 'select' when '2' then 'update' when '3' then 'insert' else 'delete' end)
           as problem,
       format('drop rule %I on %I.%I', r.rulename, n.nspname, c.relname) as remedy
from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and not (r.rulename = '_RETURN' and c.relkind in ('v', 'm'))
order by 2;
