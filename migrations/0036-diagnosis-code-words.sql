-- The index for words of a description, by app.description_words (sql/functions/diagnosis_codes.sql). It uses functions of PostgreSQL alone,
-- so that no function of this schema has to exist before it or remain unchanged after it.
set local search_path = app;
drop index diagnosis_codes_words;
create index diagnosis_codes_words on diagnosis_codes using gin ((
    to_tsvector('simple', regexp_replace(regexp_replace(lower(regexp_replace(
        normalize(translate(description, '''’‘ʼ`´', ''), nfkd), '[\u0300-\u036f]+', '', 'g')),
        '([a-z0-9]+)-([a-z0-9]+)', '\1 \2 \1\2', 'g'), '[^a-z0-9]+', ' ', 'g'))
    || to_tsvector('english', regexp_replace(lower(regexp_replace(
        normalize(translate(description, '''’‘ʼ`´', ''), nfkd), '[\u0300-\u036f]+', '', 'g')), '[^a-z0-9]+', ' ', 'g'))));
