-- name: reserve
-- Reserves a key. No row: the key is new, and concurrent requests with it wait. A row: the stored response, and whether it was for the same
-- body.
select same, status, headers, body
from reserve_idempotency_key(:path, :key, :body_hash);

-- name: store
-- Stores the first response, in the transaction of its effect.
select store_response(:path, :key, :status, :headers, :body);
