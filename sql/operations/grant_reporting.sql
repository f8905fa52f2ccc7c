-- Creates a login that reads one organization (slug), or changes an existing one. Policies compare rows with the organization in
-- context.reporting_logins. The login can't write. personal: it may also read names, contact data and free texts.
-- Fails with "no rows returned" if there is no such organization, or if the login exists for another purpose.
\set ON_ERROR_STOP on
set client_min_messages = error;  -- no warnings about revoking what was not granted
begin;
select organization_id as organization from app.organizations where slug = :'slug' \gset
select format('create role %I login', :'login') where not exists (select from pg_roles where rolname = :'login') \gexec
select rolname as login from pg_roles r
where rolname = :'login' and rolcanlogin and not rolsuper and not rolbypassrls and not rolcreaterole and rolname not like 'claims\_%'
  and not exists (select from pg_auth_members m join pg_roles g on g.oid = m.roleid
                  where m.member = r.oid and g.rolname not in ('claims_reporting', 'claims_reporting_personal')) \gset
select format('revoke claims_reporting, claims_reporting_personal from %I', :'login') \gexec
select format('grant %I to %I', case :'personal' when '' then 'claims_reporting' else 'claims_reporting_personal' end, :'login') \gexec
select format('alter role %I in database %I set %s', :'login', current_database(), setting)
from (values ('app.organization_id = ' || quote_literal(:'organization')), ('default_transaction_read_only = on'),
             ('statement_timeout = ''60s'''), ('idle_in_transaction_session_timeout = ''60s''')) as s (setting) \gexec
insert into context.reporting_logins (login, organization_id) values (:'login', :'organization')
on conflict (login) do update set organization_id = excluded.organization_id, granted_at = now(), granted_by = session_user;
commit;
\echo :login reads :slug; give it a password with the command password of psql (make psql)
