-- The statements of PostgresMade, loaded by name.

-- name: made_connections
-- Connections made through the API, with their sealed settings.
SELECT c.name, m.sealed FROM made_connections m
JOIN connections c ON c.id = m.connection_id
ORDER BY c.name COLLATE "C";

-- name: save_made
-- Keep the settings of one.
INSERT INTO made_connections (connection_id, sealed, created_at, updated_at)
SELECT c.id, $2, $3, $3 FROM connections c WHERE c.name = $1
ON CONFLICT (connection_id) DO UPDATE SET sealed = excluded.sealed,
    updated_at = excluded.updated_at
RETURNING connection_id;

-- name: forget_made
-- Forget that one was made.
DELETE FROM made_connections m USING connections c
WHERE c.name = $1 AND m.connection_id = c.id
RETURNING m.connection_id;
