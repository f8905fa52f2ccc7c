set local search_path = app;
drop table audit_logs;
