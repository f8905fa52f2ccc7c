set local search_path = app;
drop table claim_status_history;
