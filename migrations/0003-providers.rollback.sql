set local search_path = app;
drop table providers; drop function is_npi(text);
