set local search_path = app;
drop table care_relationships;
