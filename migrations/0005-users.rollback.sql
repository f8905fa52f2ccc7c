set local search_path = app;
drop table auth.credentials; drop table users;
