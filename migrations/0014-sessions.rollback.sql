set local search_path = app;
drop table auth.windows; drop table auth.refresh_tokens; drop table auth.sessions;
