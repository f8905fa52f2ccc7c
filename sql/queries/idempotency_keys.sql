-- name: reserve
-- No row: the key is the caller's to use, and whoever else comes with it waits. A row: the first answer, and whether it was to the
-- same body.
select same, status, headers, body
from reserve_idempotency_key(:path, :key, :body_hash);

-- name: store
-- The first answer, in the transaction of its effect.
select store_response(:path, :key, :status, :headers, :body);
