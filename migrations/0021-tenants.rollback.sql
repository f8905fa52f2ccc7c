drop table auth.tenants;
