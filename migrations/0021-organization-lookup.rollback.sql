drop table auth.organization_lookup;
