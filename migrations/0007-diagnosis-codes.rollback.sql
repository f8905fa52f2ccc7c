set local search_path = app;
drop table diagnosis_codes;
