-- A view, materialized view or rule of another schema reads our tables as its owner; an administrator's reads all organizations. A parent
-- of one of our tables shows its rows without its policies. A login then needs only the right to select from it.
-- Left out: a view with security_invoker, which reads as its caller.
with ours as (select oid from pg_namespace where nspname in ('app', 'auth', 'context', 'procrastinate', 'schema_admin')),
elsewhere as (
    select c.oid, c.relkind, c.relowner, c.reloptions, format('%I.%I', n.nspname, c.relname) as object
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.oid not in (select oid from ours) and n.nspname !~ '^pg_|^information_schema$'
)
select '083 read from elsewhere' as check, e.object,
       format('reads %s as %s', string_agg(distinct t.oid::regclass::text, ', '), e.relowner::regrole) as problem,
       case e.relkind when 'v' then format('drop view %s', e.object) when 'm' then format('drop materialized view %s', e.object)
                      else format('drop rule %I on %s', min(w.rulename), e.object) end as remedy
from elsewhere e
join pg_rewrite w on w.ev_class = e.oid
join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
join pg_class t on t.oid = d.refobjid and t.relnamespace in (select oid from ours)
where not (e.relkind = 'v' and exists (
    select from pg_options_to_table(e.reloptions) o where o.option_name = 'security_invoker' and o.option_value::boolean))
group by e.object, e.relkind, e.relowner
union all
select '083 read from elsewhere', e.object, format('shows the rows of %s, which inherits from it', t.oid::regclass),
       format('alter table %s no inherit %s', t.oid::regclass, e.object)
from elsewhere e join pg_inherits i on i.inhparent = e.oid join pg_class t on t.oid = i.inhrelid
where t.relnamespace in (select oid from ours)
order by 2, 3;
