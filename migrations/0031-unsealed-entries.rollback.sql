drop table auth.unsealed_entries;
alter table auth.organization_lookup drop column daily_seal_at;
