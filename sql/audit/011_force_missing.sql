-- Without FORCE the policies do not apply to the table's owner, nor to definer functions and migrations that run as it.
select '011 force missing' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       format('row-level security is not forced on the owner, %s', c.relowner::regrole) as problem,
       format('alter table %I.%I force row level security', n.nspname, c.relname) as remedy
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('app', 'auth', 'context') and c.relkind in ('r', 'p') and not c.relforcerowsecurity
order by 2;
