-- name: consume
-- Consumes attempts of the subject's window. Returns how many were granted, how many remain, the seconds until the window ends, and its
-- start in microseconds since 1970.
-- signed: subject want limit seconds
select granted, remaining, reset_after, window_start
from auth.consume_rate_limit(:subject, :want, :limit, :seconds, :proof);

-- name: refund
-- Refunds an attempt to the account and to the address, if the windows that it was consumed from have not ended.
-- signed: account address account_window address_window
select auth.refund_rate_limit(:account, :address, :account_window, :address_window, :proof);
