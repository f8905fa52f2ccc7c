-- Suspends an organization (slug; at: now()) or resumes it (at: null). From the next request on, no user of a suspended organization is
-- accepted. Fails if there is no such organization. The organization's audit log gets an entry.
\set ON_ERROR_STOP on
\set VERBOSITY terse
select exists (select from app.organizations where slug = :'slug') as found \gset
\if :found
update app.organizations set suspended_at = :at where slug = :'slug'
returning slug || case when suspended_at is null then ' is not suspended' else ' is suspended since ' || suspended_at end as result \gset
\echo :result
\else
\warn no organization has the slug :'slug'
do $$ begin raise exception 'nothing was changed'; end $$;
\endif
