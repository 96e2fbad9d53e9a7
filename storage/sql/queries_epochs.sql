-- The statements of PostgresEpochs, loaded by name; and what a restore asks of keys.

-- name: begin_epoch
-- A daemon begins to use the database: see epochs.sql.
SELECT id, epoch, behind FROM begin_epoch($1, $2, $3);

-- name: advance_epoch
-- It goes on using it.
SELECT id, epoch FROM advance_epoch($1, $2);

-- name: stale_keys
-- The connections whose keys are older than what was seen of them.
SELECT c.name AS connection, s.found_at, s.accepted_at IS NOT NULL AS accepted
FROM stale_keys s JOIN connections c ON c.id = s.connection_id
WHERE $1::text IS NULL OR c.name = $1
ORDER BY c.name;

-- name: renew_keys
-- What could be used twice goes: see epochs.sql.
SELECT renew_keys($1, $2, $3::text[], $4, $5) AS done;

-- name: keys_renewed
-- Fresh one-time prekeys are at the server: the connection is as any other.
DELETE FROM stale_keys s USING connections c
WHERE c.name = $1 AND s.connection_id = c.id AND s.accepted_at IS NOT NULL
RETURNING s.connection_id;

-- name: key_facts
-- How new the keys are: when the newest was written, and whether a daemon was using them.
SELECT greatest(
        (SELECT max(updated_at) FROM device_identity),
        (SELECT max(updated_at) FROM signal_sessions),
        (SELECT max(updated_at) FROM signal_prekeys),
        (SELECT max(updated_at) FROM signal_sender_keys)) AS keys_at,
    coalesce((SELECT ended_at IS NULL FROM daemon_lives ORDER BY id DESC LIMIT 1), false) AS live,
    to_regclass('database_epoch') IS NOT NULL AS may_have_epoch;

-- name: epoch_facts
-- Which database it is, and how far it has come; older schemas have no such table.
SELECT id::text AS id, epoch, EXISTS (SELECT FROM stale_keys) AS stale FROM database_epoch;
