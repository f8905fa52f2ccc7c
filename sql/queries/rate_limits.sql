-- name: consume
-- Part of what the subject's window has left: how many were granted, how many are left, in how many seconds it begins anew, and when it
-- window_start (microseconds since 1970).
-- signed: subject want limit seconds
select granted, remaining, reset_after, window_start
from auth.consume_rate_limit(:subject, :want, :limit, :seconds, :proof);

-- name: refund
-- The account and the address get back the try that was none, where it was taken of the window that still is.
-- signed: account address account_window address_window
select auth.refund_rate_limit(:account, :address, :account_window, :address_window, :proof);
