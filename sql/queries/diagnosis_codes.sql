-- name: list
-- Codes that begin with the search, or whose description holds all of its words; in their own order.
select json_build_array(d.code, d.valid_from), diagnosis_code_json(d)
from diagnosis_codes d
where true
and (d.code ^@ icd10(:search) or to_tsvector('english', d.description) @@ all_words(:search)) -- if :search
and (d.code, d.valid_from) > (:after::json ->> 0, (:after::json ->> 1)::date) -- if :after
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
    and (d.code ^@ icd10(:search) or to_tsvector('english', d.description) @@ all_words(:search)) -- if :search
    limit 10001
) as counted;
