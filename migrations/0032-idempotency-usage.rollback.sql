set local search_path = app;
drop table auth.idempotency_usage;
alter table idempotency_keys alter column body set storage extended;
