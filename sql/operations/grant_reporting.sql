-- An operator's act: a login that reads one organization (slug), by policies that compare with the id noted for it in context.reporting_logins.
-- It changes nothing. personal: it reads names, contact data and free texts, too. Repeated with other values it changes them.
-- Ends with "no rows returned" where there is no such organization, or where the login exists for another purpose.
\set ON_ERROR_STOP on
set client_min_messages = error;  -- revoking what was not granted is no news
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
