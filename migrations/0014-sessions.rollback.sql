set local search_path = app;
drop table auth.rate_limits; drop table auth.refresh_tokens; drop table auth.sessions;
