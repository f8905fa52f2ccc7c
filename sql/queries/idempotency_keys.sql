-- name: take
-- No row: the key is the caller's to use, and whoever else comes with it waits. A row: the first answer, and whether it was to the
-- same body.
select same, status, headers, body
from take_key(:path, :key, :body_hash);

-- name: keep
-- The first answer, in the transaction of its effect.
select keep_answer(:path, :key, :status, :headers, :body);
