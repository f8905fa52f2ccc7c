-- PostgreSQL's predefined roles read and write every table, read the server's files, run programs or end connections. None of our roles,
-- their members and the roles in between may be a member of one. Other logins that may connect to this database may not be members of one
-- with access to tables or files, because the queue has no row-level security.
-- Left out: superusers, and the role that makes backups (BYPASSRLS).
with ours as (select * from schema_admin.our_roles()),
concerned as (select * from schema_admin.concerned_roles())
select distinct '072 predefined role' as check, m.rolname::text as object, format('is a member of %I', r.rolname) as problem,
       format('revoke %I from %I', r.rolname, m.rolname) as remedy
from pg_auth_members x join pg_roles m on m.oid = x.member join pg_roles r on r.oid = x.roleid
where r.rolname ~ '^pg_' and m.rolname !~ '^pg_' and not m.rolsuper
  and (m.oid in (select oid from ours)
       or not m.rolbypassrls
          and (m.oid in (select oid from concerned)
               or r.rolname in ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files',
                                'pg_execute_server_program')
                  and m.rolcanlogin and has_database_privilege(m.oid, current_database(), 'connect')))
order by 2, 3;
