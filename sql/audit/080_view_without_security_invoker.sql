-- A view reads tables as its owner unless it is security_invoker. A role that may select from it reads rows that its own policies hide.
select '080 view without security invoker' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       format('reads as %s, not as the caller', c.relowner::regrole) as problem,
       format('alter view %I.%I set (security_invoker = true)', n.nspname, c.relname) as remedy
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and c.relkind = 'v'
  and not exists (
    select from pg_options_to_table(c.reloptions) o where o.option_name = 'security_invoker' and o.option_value::boolean)
order by 2;
