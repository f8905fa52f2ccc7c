-- Triggers implement the rules of claims, the audit log and foreign keys. Without one, its rule is silently ignored.
select '120 trigger disabled' as check,
       format('%I.%I: %I', n.nspname, c.relname, t.tgname) as object,
       case t.tgenabled when 'R' then 'fires in replicas only' else 'is disabled' end as problem,
       format('alter table %I.%I enable trigger %s', n.nspname, c.relname,
              case when t.tgisinternal then 'all' else quote_ident(t.tgname) end) as remedy
from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('app', 'auth') and t.tgenabled not in ('O', 'A')
order by 2;
