-- name: take
-- Part of what the subject's window has left: how many were granted, how many are left, and in how many seconds it begins anew.
select granted, remaining, reset_after
from auth.take(:subject, :want, :limit, :seconds);

-- name: forgive
-- The account's tries are forgotten; the address gets back one of its own.
select auth.forgive(:account, :address);
