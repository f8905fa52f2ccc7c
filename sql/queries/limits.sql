-- name: take
-- Part of what the subject's window has left: how many were granted, how many are left, and in how many seconds it begins anew.
-- Lowered as credentials are, here and not in Python: two spellings of one email are one subject in every locale.
select granted, remaining, reset_after
from auth.take(lower(:subject), :want, :limit, :seconds);

-- name: forgive
-- The account and the address get back the try that was none.
select auth.forgive(lower(:account), lower(:address));
