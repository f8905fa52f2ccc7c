set local search_path = app;
drop table auth.kept_answers;
alter table idempotency_keys alter column body set storage extended;
