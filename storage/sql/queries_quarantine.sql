-- The statements of PostgresQuarantine, loaded by name.

-- name: resolve_quarantined
-- Store what a quarantined row became: see quarantine.sql.
SELECT ord, verdict, message_id, conversation_id, opened, reopened, filled, retries, resolved
FROM resolve_quarantined(
    $6, $7, $1::text::jsonb, $2::text[], $3::bytea[], $4::bytea[], $5::bytea[], $8);

-- name: quarantined
-- Rows of the quarantine, the newest first.
SELECT q.id, c.name AS connection, q.chat, q.sender, q.external_id, q.error, q.attempts,
    q.received_at, q.last_attempt_at, length(q.stanza) AS stanza_bytes,
    q.kept IS NOT NULL AS kept, q.opened, q.resolved_at, q.resolution, q.message_id
FROM quarantine q
JOIN connections c ON c.id = q.connection_id
WHERE ($1::text IS NULL OR c.name = $1) AND ($2 OR q.resolved_at IS NULL)
    AND ($3::bigint IS NULL OR q.id < $3)
ORDER BY q.id DESC LIMIT $4;

-- name: quarantined_stanza
-- One row with all that was kept of it.
SELECT q.id, c.name AS connection, q.chat, q.sender, q.external_id, q.error, q.attempts,
    q.received_at, q.last_attempt_at, length(q.stanza) AS stanza_bytes,
    q.kept IS NOT NULL AS kept, q.opened, q.resolved_at, q.resolution, q.message_id,
    q.stanza, q.raw, q.kept AS message
FROM quarantine q
JOIN connections c ON c.id = q.connection_id
WHERE q.id = $1;
