drop table auth.touched;
alter table auth.tenants drop column daily_seal_at;
