set local search_path = app;
drop index diagnosis_codes_prefix, diagnosis_codes_words;
