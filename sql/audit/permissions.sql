-- Who may reach which table by which command, and by which rule: the policies as the live catalog has them.
select tablename as table, array_to_string(roles, ', ') as roles, cmd as command,
       case permissive when 'PERMISSIVE' then 'opens' else 'closes' end as kind,
       coalesce(qual, with_check) as rule
from pg_policies
where schemaname in ('app', 'auth')
order by tablename, permissive desc, cmd, roles;
