-- name: take
-- Part of what the subject's window has left: how many were granted, how many are left, in how many seconds it begins anew, and when it
-- began (microseconds since 1970).
-- signed: subject want limit seconds
select granted, remaining, reset_after, began
from auth.take(:subject, :want, :limit, :seconds, :proof);

-- name: forgive
-- The account and the address get back the try that was none, where it was taken of the window that still is.
-- signed: account address account_began address_began
select auth.forgive(:account, :address, :account_began, :address_began, :proof);
