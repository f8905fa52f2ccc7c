set local search_path = app;
drop index diagnosis_codes_words;
create index diagnosis_codes_words on diagnosis_codes using gin (to_tsvector('english', description));
