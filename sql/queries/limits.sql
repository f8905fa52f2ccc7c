-- name: take
-- Part of what the subject's window has left: how many were granted, how many are left, and in how many seconds it begins anew.
-- signed: subject want limit seconds
select granted, remaining, reset_after
from auth.take(:subject, :want, :limit, :seconds, :proof);

-- name: forgive
-- The account and the address get back the try that was none.
-- signed: account address
select auth.forgive(:account, :address, :proof);
