-- An operator's act: the reporting login is gone. Ends with "no rows returned" where there is none of that name.
\set ON_ERROR_STOP on
begin;
delete from context.reporting_logins where login = :'login' returning login \gset
select format('drop role %I', :'login') \gexec
commit;
\echo :login is no login any more; a session that it has open reads nothing from now on
