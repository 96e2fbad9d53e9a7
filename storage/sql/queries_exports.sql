-- The statements of exports, loaded by name: what is written, and the table of them.

-- name: export_scope
-- Whether there is what an export is limited to: connection $1, contact $2, conversation $3.
SELECT count(*) > 0 AS connection, bool_or(chat_at(c.id, $2) IS NOT NULL) AS contact,
    bool_or(EXISTS (
        SELECT FROM conversations v WHERE v.connection_id = c.id AND v.id = $3)) AS conversation
FROM connections c
WHERE c.name = $1 OR $1::text IS NULL;

-- name: export_conversations
-- Conversations behind ($1 connection, $2 chat, $3 opened_at, $4 id), in this order, with messages
-- up to $8 that were sent in [$9, $10).
SELECT v.connection_id, v.chat_id, v.opened_at, v.id, c.name AS connection, k.kind AS chat_kind,
    k.address AS chat, v.status, v.messages, v.last_message_at, v.closed_at,
    CASE k.kind
        WHEN 'group' THEN (SELECT g.subject FROM groups g
            WHERE g.connection_id = v.connection_id AND g.address = k.address)
        ELSE contact_name(v.connection_id, k.contact_id)
    END AS name,
    CASE k.kind WHEN 'group' THEN k.address
        ELSE contact_address(v.connection_id, k.contact_id) END AS address
FROM conversations v
JOIN connections c ON c.id = v.connection_id
JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id
WHERE (v.connection_id, v.chat_id, v.opened_at, v.id)
        > ($1::integer, $2::bigint, $3::timestamptz, $4::bigint)
  AND ($5::text IS NULL OR c.name = $5)
  AND ($6::text IS NULL OR v.chat_id = chat_at(v.connection_id, $6))
  AND ($7::bigint IS NULL OR v.id = $7)
  AND ($9::timestamptz IS NULL OR v.last_message_at >= $9)
  AND EXISTS (
    SELECT FROM messages m
    WHERE m.connection_id = v.connection_id AND m.conversation_id = v.id
      AND m.lane <> 'side' AND m.id <= $8
      AND m.sent_at >= coalesce($9::timestamptz, '-infinity') AND m.sent_at < coalesce($10::timestamptz, 'infinity'))
ORDER BY v.connection_id, v.chat_id, v.opened_at, v.id
LIMIT $11;

-- name: export_messages
-- The first $9 messages of conversations ($1 connections, $2 ids), each behind its place ($3
-- sent_at, $4 arrival, $5 id), up to $6, sent in [$7, $8), as they look now.
WITH page AS MATERIALIZED (
    SELECT v.ord, m.*
    FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[], $4::bigint[], $5::bigint[])
        WITH ORDINALITY AS v (connection_id, id, sent_at, arrival, message_id, ord)
    CROSS JOIN LATERAL (
        SELECT m.connection_id, m.id, m.chat_id, m.sender_id, m.external_id, m.arrival, m.kind,
            m.state, m.from_me, m.sent_at, m.text, m.quoted_id, m.quoted_author, m.detail, m.flags,
            m.erased
        FROM messages m
        WHERE m.connection_id = v.connection_id AND m.conversation_id = v.id
          AND (m.sent_at, m.arrival, m.id) > (v.sent_at, v.arrival, v.message_id)
          AND m.sent_at >= coalesce($7::timestamptz, '-infinity') AND m.sent_at < coalesce($8::timestamptz, 'infinity')
          AND m.id <= $6 AND m.lane <> 'side'
        ORDER BY m.sent_at, m.arrival, m.id
        LIMIT $9
    ) m
    ORDER BY v.ord, m.sent_at, m.arrival, m.id
    LIMIT $9
), people AS MATERIALIZED (
    SELECT s.connection_id, s.sender_id, contact_name(s.connection_id, s.sender_id) AS name,
        contact_address(s.connection_id, s.sender_id) AS address
    FROM (SELECT DISTINCT connection_id, sender_id FROM page) s
)
SELECT page.ord, page.id, page.sent_at, page.arrival, page.external_id, page.kind, page.state,
    page.from_me, CASE WHEN e.message_id IS NULL THEN page.text ELSE e.text END AS text,
    e.message_id IS NOT NULL AS edited, d.deleted_at, people.name AS sender_name,
    people.address AS sender, page.quoted_id, page.flags, page.detail, page.erased AS removed,
    f.kind AS file_kind, f.state AS file_state, f.mimetype AS file_type, f.name AS file_name,
    coalesce(f.blob_size, f.size) AS file_size,
    CASE f.state WHEN 'stored' THEN f.blob_sha256 END AS blob,
    (SELECT jsonb_agg(jsonb_build_array(r.emoji, coalesce(
            contact_name(r.connection_id, r.sender_id), contact_address(r.connection_id, r.sender_id)))
        ORDER BY r.at, r.sent_at_ms, r.external_id COLLATE "C")
     FROM reactions r
     WHERE r.connection_id = page.connection_id AND r.message_id = page.id) AS reactions,
    CASE WHEN page.quoted_id IS NOT NULL THEN (
        SELECT left(q.text, 300) FROM messages q
        WHERE q.connection_id = page.connection_id AND q.chat_id = page.chat_id
          AND q.external_id = page.quoted_id AND q.lane <> 'side'
        ORDER BY q.id LIMIT 1
    ) END AS quoted_text
FROM page
JOIN people ON people.connection_id = page.connection_id AND people.sender_id = page.sender_id
LEFT JOIN media f ON f.connection_id = page.connection_id AND f.message_id = page.id
LEFT JOIN LATERAL (
    SELECT v.message_id, v.text FROM message_edits v
    WHERE v.connection_id = page.connection_id AND v.message_id = page.id
    ORDER BY v.at DESC, v.sent_at_ms DESC, v.external_id COLLATE "C" DESC LIMIT 1
) e ON true
LEFT JOIN LATERAL (
    SELECT v.deleted_at FROM message_deletions v
    WHERE v.connection_id = page.connection_id AND v.message_id = page.id
    OFFSET 0
) d ON true
ORDER BY page.ord, page.sent_at, page.arrival, page.id;

-- name: begin_export
-- An export begins, and is put on record; nothing if there is one of that name, or of that period,
-- already.
WITH begun AS (
    INSERT INTO exports (name, period, place, request, started_at, updated_at)
    VALUES ($1, $2, $3, $4::jsonb, $5, $5)
    ON CONFLICT DO NOTHING
    RETURNING *
), recorded AS (
    INSERT INTO history_accesses (
        at, who, token_id, uid, what, query, connection, conversations, messages, request_id)
    SELECT $5, $6, $7, $8, 'export', b.name, b.request ->> 'connection',
        array_remove(ARRAY[(b.request ->> 'conversation')::bigint], NULL), '{}', $9
    FROM begun b
)
SELECT * FROM begun;

-- name: begin_export_again
-- An export that failed, or whose process died, goes on; that is put on record, too.
WITH begun AS (
    UPDATE exports SET state = 'running', attempts = attempts + 1, error = NULL,
        finished_at = NULL, updated_at = $2
    WHERE id = $1 AND state <> 'done' AND removed_at IS NULL
    RETURNING *
), recorded AS (
    INSERT INTO history_accesses (
        at, who, token_id, uid, what, query, connection, conversations, messages, request_id)
    SELECT $2, $3, $4, $5, 'export', b.name, b.request ->> 'connection',
        array_remove(ARRAY[(b.request ->> 'conversation')::bigint], NULL), '{}', $6
    FROM begun b
)
SELECT * FROM begun;

-- name: export_progress
-- How far it is.
UPDATE exports SET counts = $2::jsonb, updated_at = $3
WHERE id = $1 AND state = 'running'
RETURNING id;

-- name: finish_export
-- It is complete; tells so.
WITH done AS (
    UPDATE exports SET state = 'done', counts = $2::jsonb, bytes = $3, finished_at = $4,
        updated_at = $4
    WHERE id = $1 AND state = 'running'
    RETURNING *
)
SELECT done.*, put_event('export.finished', NULL, jsonb_build_object(
    'export_id', done.id, 'name', done.name, 'period', done.period, 'form',
    done.request ->> 'form', 'counts', done.counts, 'bytes', done.bytes, 'error', NULL))
FROM done;

-- name: fail_export
-- It has failed; tells so.
WITH failed AS (
    UPDATE exports SET state = 'failed', error = $2, finished_at = $3, updated_at = $3
    WHERE id = $1 AND state = 'running'
    RETURNING *
)
SELECT failed.*, put_event('export.failed', NULL, jsonb_build_object(
    'export_id', failed.id, 'name', failed.name, 'period', failed.period, 'form',
    failed.request ->> 'form', 'counts', failed.counts, 'bytes', failed.bytes,
    'error', failed.error))
FROM failed;

-- name: list_exports
-- Exports, the newest first.
SELECT * FROM exports WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2;

-- name: one_export
-- An export.
SELECT * FROM exports WHERE id = $1;

-- name: export_named
-- The export of a name.
SELECT * FROM exports WHERE name = $1;

-- name: running_exports
-- Exports that are being written, or whose process died, the oldest first.
SELECT * FROM exports WHERE state = 'running' ORDER BY id;

-- name: scheduled_exports
-- Exports of the schedule, the newest first.
SELECT * FROM exports WHERE period IS NOT NULL ORDER BY id DESC LIMIT 1000;

-- name: export_removed
-- The files of an export are deleted.
UPDATE exports SET removed_at = $2, updated_at = $2
WHERE id = $1 AND state <> 'running' AND removed_at IS NULL
RETURNING *;
