set local search_path = app;
drop table invitations;
