-- An operator's act: nobody of the organization (slug) enters a context from the next request on, or everybody may again (at: now()
-- or null). Ends with an error where there is no such organization. The trail of the organization has it.
\set ON_ERROR_STOP on
update app.organizations set suspended_at = :at where slug = :'slug'
returning slug || case when suspended_at is null then ' is not suspended' else ' is suspended since ' || suspended_at end as done \gset
\echo :done
