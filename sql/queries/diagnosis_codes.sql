-- name: list
-- written out: limit
-- Codes that begin with the search, or whose description holds all of its words; in their own order. A search finds its rows first
-- and sorts them then: along the order it would take the words of one description after another. The values in selects of their own
-- are worked out once.
with found as
materialized -- if :search
(
    select d.*
    from diagnosis_codes d
    where true
    and (d.code ~>=~ (select icd10(:search)) and d.code ~<~ (select icd10(:search) || '~') -- if :search
        or to_tsvector('english', d.description) @@ (select prefix_tsquery(:search))) -- if :search
    and (d.code, d.valid_from) > ((select :after::json ->> 0), (select (:after::json ->> 1)::date)) -- if :after
)
select json_build_array(d.code, d.valid_from), diagnosis_code_json(d)
from found d
order by d.code, d.valid_from
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- As many as list would show, counted no further than 10,001.
select count(*)
from (
    select
    from diagnosis_codes d
    where true
    and (d.code ~>=~ (select icd10(:search)) and d.code ~<~ (select icd10(:search) || '~') -- if :search
        or to_tsvector('english', d.description) @@ (select prefix_tsquery(:search))) -- if :search
    limit 10001
) as counted;
