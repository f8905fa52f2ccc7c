-- Removes a reporting login. Fails with "no rows returned" if there is none of that name.
\set ON_ERROR_STOP on
begin;
delete from context.reporting_logins where login = :'login' returning login \gset
select format('drop role %I', :'login') \gexec
commit;
\echo :login is removed; its open sessions read nothing from now on
