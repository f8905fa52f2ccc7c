set local search_path = app;
drop table idempotency_keys;
