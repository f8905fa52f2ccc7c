-- Indexes for the search of codes by their prefix, and by words of their description.
set local search_path = app;
create index diagnosis_codes_words on diagnosis_codes using gin (to_tsvector('english', description));
create index diagnosis_codes_prefix on diagnosis_codes (code text_pattern_ops, valid_from);
