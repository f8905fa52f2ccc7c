-- Without row-level security the table's policies have no effect: a role that may select sees the rows of all organizations.
select '010 row level security missing' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       'row-level security is not enabled' as problem,
       format('alter table %I.%I enable row level security, force row level security', n.nspname, c.relname) as remedy
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('app', 'auth', 'context') and c.relkind in ('r', 'p') and not c.relrowsecurity
order by 2;
