set local search_path = app;
alter table auth.organization_lookup drop column slug;
alter table auth.credentials drop column joined_at, drop column proven_at;
