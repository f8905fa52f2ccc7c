drop table auth.denials;
