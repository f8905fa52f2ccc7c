-- fragment: filters
-- The filters of list and count.
and (d.code ~>=~ (select code_prefix(:search)) and d.code ~<~ (select code_prefix(:search) || '~') -- if :search
    or description_words(d.description) @@ (select prefix_tsquery(:search))) -- if :search

-- name: list
-- written out: limit
-- Codes that begin with the search, or whose description has all of its words; ordered by code. With a search the keys of the matches
-- are materialized and then sorted: a scan in the order of codes would match one description after another. Whole rows are read for the
-- page alone. Values in sub-selects are calculated once.
with found as
materialized -- if :search
(
    select d.code, d.valid_from
    from diagnosis_codes d
    where true
    -- use: filters
    and (d.code, d.valid_from) > ((select :after::json ->> 0), (select (:after::json ->> 1)::date)) -- if :after
), page as (
    select code, valid_from
    from found
    order by code, valid_from
    limit :limit + 1
    offset :offset -- if :offset
)
select json_build_array(d.code, d.valid_from), diagnosis_code_json(d)
from page
join diagnosis_codes d using (code, valid_from)
order by d.code, d.valid_from;

-- name: count
-- The number of rows of list, up to 10,001.
select count(*)
from (
    select
    from diagnosis_codes d
    where true
    -- use: filters
    limit 10001
) as counted;
