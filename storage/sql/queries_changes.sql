-- The statements of PostgresChanges, loaded by name.

-- name: changes
-- Edits and deletions, the newest first, from below a place; with what was said before, if $9.
SELECT s.id AS change, s.sent_at AS at,
    CASE s.kind WHEN 'edit' THEN 'edited' ELSE 'deleted' END AS kind,
    person(s.connection_id, s.sender_id) AS by, c.name AS connection,
    m.conversation_id AS conversation, k.address AS chat,
    coalesce(g.subject, contact_name(k.connection_id, k.contact_id)) AS title,
    m.id AS message, m.external_id, m.kind AS message_kind, m.from_me,
    person(m.connection_id, m.sender_id) AS author, m.sent_at,
    EXISTS (
        SELECT FROM media f
        WHERE f.connection_id = m.connection_id AND f.message_id = m.id) AS has_file,
    CASE WHEN NOT $9 THEN NULL WHEN e.side_id IS NULL THEN m.text ELSE e.text END AS former
FROM messages s
JOIN connections c ON c.id = s.connection_id
CROSS JOIN LATERAL change_target(s.connection_id, s.id, s.chat_id, s.sender_id, s.kind,
    s.target_id, s.target_author) t
JOIN messages m ON m.connection_id = s.connection_id AND m.id = t.id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
LEFT JOIN groups g ON k.kind = 'group' AND g.connection_id = k.connection_id
    AND g.address = k.address
LEFT JOIN LATERAL (
    SELECT v.side_id, v.text FROM message_edits v
    WHERE v.connection_id = m.connection_id AND v.message_id = m.id AND (s.kind = 'revoke'
        OR (v.at, v.sent_at_ms, v.external_id COLLATE "C") < (s.sent_at,
            CASE WHEN jsonb_typeof(s.detail -> 'sent_at_ms') = 'number'
                THEN (s.detail ->> 'sent_at_ms')::numeric ELSE 0 END,
            s.external_id COLLATE "C"))
    ORDER BY v.at DESC, v.sent_at_ms DESC, v.external_id COLLATE "C" DESC LIMIT 1
) e ON $9
WHERE s.kind IN ('edit', 'revoke') AND s.state = 'stored'
    AND (m.sender_id = s.sender_id
        OR s.kind = 'revoke' AND k.kind = 'group' AND s.target_author IS NOT NULL)
    AND ($1::text IS NULL OR c.name = $1)
    AND ($2::bigint IS NULL AND $3::text IS NULL
        OR (s.connection_id, s.chat_id) IN (SELECT o.* FROM chats_of($2, $3) o))
    AND ($4::text IS NULL OR s.kind = CASE $4 WHEN 'edited' THEN 'edit' ELSE 'revoke' END)
    AND ($5::timestamptz IS NULL OR s.sent_at >= $5)
    AND ($6::timestamptz IS NULL OR s.sent_at < $6)
    AND ($7::timestamptz IS NULL OR (s.sent_at, s.id) < ($7, $8::bigint))
ORDER BY s.sent_at DESC, s.id DESC LIMIT $10;

-- name: changes_of
-- The same of one message, all of them, the oldest first, without what was said.
SELECT v.side_id AS change, v.sent_at AS at,
    CASE v.kind WHEN 'edit' THEN 'edited' ELSE 'deleted' END AS kind,
    person(v.connection_id, v.sender_id) AS by, c.name AS connection,
    m.conversation_id AS conversation, k.address AS chat,
    coalesce(g.subject, contact_name(k.connection_id, k.contact_id)) AS title,
    m.id AS message, m.external_id, m.kind AS message_kind, m.from_me,
    person(m.connection_id, m.sender_id) AS author, m.sent_at,
    EXISTS (
        SELECT FROM media f
        WHERE f.connection_id = m.connection_id AND f.message_id = m.id) AS has_file,
    NULL::text AS former
FROM connections c
JOIN messages m ON m.connection_id = c.id AND m.id = $1
JOIN side_messages v ON v.connection_id = m.connection_id AND v.message_id = m.id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
LEFT JOIN groups g ON k.kind = 'group' AND g.connection_id = k.connection_id
    AND g.address = k.address
WHERE v.kind IN ('edit', 'revoke')
    AND (v.sender_id = v.author_id
        OR v.kind = 'revoke' AND v.in_group AND v.target_author IS NOT NULL AND v.author_fits)
ORDER BY v.sent_at, v.sent_at_ms, v.external_id COLLATE "C";

-- name: deleted_among
-- Which of these messages were deleted for everyone.
SELECT DISTINCT d.message_id AS id FROM message_deletions d
WHERE d.connection_id = ANY (ARRAY(SELECT c.id FROM connections c))
    AND d.message_id = ANY ($1::bigint[]);

-- name: outdated_outbox
-- Which of these rows of the outbox hold what a message said before it was deleted or changed.
SELECT o.id
FROM outbox o
CROSS JOIN LATERAL (SELECT chat_at(o.connection_id, o.chat) AS id OFFSET 0) k
JOIN contacts f ON f.connection_id = o.connection_id AND f.is_self
JOIN messages m ON m.connection_id = o.connection_id AND m.chat_id = k.id
    AND m.sender_id = f.id
    AND m.external_id = CASE o.kind WHEN 'edit' THEN o.body ->> 'target' ELSE o.external_id END
LEFT JOIN LATERAL (
    SELECT v.external_id FROM message_edits v
    WHERE v.connection_id = m.connection_id AND v.message_id = m.id
    ORDER BY v.at DESC, v.sent_at_ms DESC, v.external_id COLLATE "C" DESC LIMIT 1
) e ON true
WHERE o.connection_id = ANY (ARRAY(SELECT c.id FROM connections c))
    AND o.id = ANY ($1::bigint[])
    AND (e.external_id <> o.external_id
        OR EXISTS (
            SELECT FROM message_deletions d
            WHERE d.connection_id = m.connection_id AND d.message_id = m.id));

-- name: record_access
-- Somebody is about to see what was said before.
INSERT INTO history_accesses (
    at, who, token_id, uid, what, query, connection, conversations, messages, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::bigint[], $9::bigint[], $10)
RETURNING id;

-- name: history_accesses
-- Who saw it, the newest first.
SELECT id, at, who, token_id, uid, what, query, connection, conversations, messages, request_id
FROM history_accesses
WHERE ($1::bigint IS NULL OR id < $1)
    AND ($2::bigint IS NULL OR messages @> ARRAY[$2::bigint])
ORDER BY id DESC LIMIT $3;

-- name: forget_accesses
-- Accesses that are too old, some at a time.
DELETE FROM history_accesses
WHERE id IN (SELECT id FROM history_accesses WHERE at < $1 ORDER BY at LIMIT $2)
RETURNING id;
