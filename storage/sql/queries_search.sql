-- The statements of PostgresSearch, loaded by name.

-- name: find_conversations
-- Conversations by activity, from below a place; see storage/search.py for the filters.
SELECT v.id, c.name AS connection, k.address AS chat,
    coalesce(g.subject, contact_name(k.connection_id, k.contact_id)) AS title,
    v.status, v.messages, v.opened_at, v.last_message_at, v.closed_at, v.reopened, v.merged_into,
    possible_hole(v.connection_id, v.id, v.last_message_at) AS possible_hole
FROM conversations v
JOIN connections c ON c.id = v.connection_id
JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id
LEFT JOIN groups g ON k.kind = 'group' AND g.connection_id = k.connection_id
    AND g.address = k.address
WHERE v.merged_into IS NULL
    AND ($1::text IS NULL OR c.name = $1)
    AND ($2::text IS NULL OR v.status = $2)
    AND ($3::bigint IS NULL AND $4::text IS NULL
        OR (v.connection_id, v.chat_id) IN (SELECT o.* FROM chats_of($3, $4) o))
    AND ($5::timestamptz IS NULL OR v.last_message_at >= $5)
    AND ($6::timestamptz IS NULL OR v.opened_at < $6)
    AND ($7::timestamptz IS NULL OR (v.last_message_at, v.id) < ($7, $8::bigint))
    AND ($9::bigint[] IS NULL OR v.id = ANY ($9))
ORDER BY v.last_message_at DESC, v.id DESC LIMIT $10;

-- name: conversations_with
-- The conversations with a text that fits, among the newest such texts; and how many those are.
WITH candidates AS MATERIALIZED (
    SELECT d.connection_id, d.message_id FROM search_documents d
    JOIN messages r ON r.connection_id = d.connection_id AND r.id = d.message_id
    WHERE d.words @@ search_query($1, $2, $3)
        AND ($4::text IS NULL
            OR d.connection_id = (SELECT c.id FROM connections c WHERE c.name = $4))
        AND ($5::bigint IS NULL AND $6::text IS NULL
            OR (r.connection_id, r.chat_id) IN (SELECT o.* FROM chats_of($5, $6) o))
    ORDER BY d.sent_at DESC, d.message_id DESC LIMIT $7
)
SELECT ARRAY(
        SELECT DISTINCT s.conversation_id FROM candidates n
        JOIN search_versions s ON s.connection_id = n.connection_id AND s.version_id = n.message_id
        WHERE (s.current OR $8) AND (NOT s.deleted OR $9)
    ) AS conversations,
    (SELECT count(*) FROM candidates) AS candidates;

-- name: conversations_named
-- The conversations with a contact or a group of a name that fits, the most recently active ones,
-- among the names that were told last; and how many those are.
WITH names AS MATERIALIZED (
    SELECT n.connection_id, n.address FROM contact_names n
    WHERE name_words(n.name) @@ search_query($1, $2, $3)
        AND ($4::text IS NULL
            OR n.connection_id = (SELECT c.id FROM connections c WHERE c.name = $4))
        AND ($5::bigint IS NULL AND $6::text IS NULL
            OR (n.connection_id, n.address) IN (
                SELECT a.connection_id, a.address FROM chats_of($5, $6) p
                JOIN chats k ON k.connection_id = p.connection_id AND k.id = p.chat_id
                JOIN contact_addresses a ON a.connection_id = k.connection_id
                    AND a.contact_id = k.contact_id))
    ORDER BY n.at DESC LIMIT $7
), subjects AS MATERIALIZED (
    SELECT g.connection_id, g.address FROM groups g
    WHERE name_words(g.subject) @@ search_query($1, $2, $3)
        AND ($4::text IS NULL
            OR g.connection_id = (SELECT c.id FROM connections c WHERE c.name = $4))
        AND ($5::bigint IS NULL AND $6::text IS NULL OR g.address = $6)
    ORDER BY g.subject_at DESC NULLS LAST LIMIT $7
), called AS (
    SELECT k.connection_id, k.id FROM names n
    JOIN contact_addresses a ON a.connection_id = n.connection_id AND a.address = n.address
    JOIN chats k ON k.connection_id = a.connection_id AND k.contact_id = a.contact_id
        AND k.kind = 'direct'
    UNION
    SELECT k.connection_id, k.id FROM subjects g
    JOIN chats k ON k.connection_id = g.connection_id AND k.address = g.address
        AND k.kind = 'group'
), found AS (
    SELECT v.id FROM called o
    JOIN conversations v ON v.connection_id = o.connection_id AND v.chat_id = o.id
    WHERE v.merged_into IS NULL
    ORDER BY v.last_message_at DESC, v.id DESC LIMIT $7
)
SELECT ARRAY(SELECT f.id FROM found f) AS conversations,
    greatest(
        (SELECT count(*) FROM names), (SELECT count(*) FROM subjects),
        (SELECT count(*) FROM found)) AS candidates;

-- name: search_messages
-- Texts that fit, the newest first, from below a place; with all that were looked at.
WITH candidates AS MATERIALIZED (
    SELECT d.connection_id, d.message_id FROM search_documents d
    JOIN messages r ON r.connection_id = d.connection_id AND r.id = d.message_id
    WHERE d.words @@ search_query($1, $2, $3)
        AND ($4::text IS NULL
            OR d.connection_id = (SELECT c.id FROM connections c WHERE c.name = $4))
        AND ($5::bigint IS NULL AND $6::text IS NULL
            OR (r.connection_id, r.chat_id) IN (SELECT o.* FROM chats_of($5, $6) o))
        AND ($7::timestamptz IS NULL OR d.sent_at >= $7)
        AND ($8::timestamptz IS NULL OR d.sent_at < $8)
        AND ($9::timestamptz IS NULL OR (d.sent_at, d.message_id) < ($9, $10::bigint))
    ORDER BY d.sent_at DESC, d.message_id DESC LIMIT $11
), page AS (
    SELECT s.* FROM candidates n
    JOIN search_versions s ON s.connection_id = n.connection_id AND s.version_id = n.message_id
    WHERE (s.current OR $12) AND (NOT s.deleted OR $13)
    ORDER BY s.sent_at DESC, s.version_id DESC LIMIT $14
), edge AS (
    SELECT count(*) AS candidates,
        (array_agg(d.sent_at ORDER BY d.sent_at, d.message_id))[1] AS at,
        (array_agg(d.message_id ORDER BY d.sent_at, d.message_id))[1] AS id
    FROM candidates n
    JOIN search_documents d ON d.connection_id = n.connection_id AND d.message_id = n.message_id
)
SELECT e.candidates, e.at AS last_at, e.id AS last_id,
    s.message_id AS message, s.version_id AS version, c.name AS connection,
    s.conversation_id AS conversation, k.address AS chat,
    coalesce(g.subject, contact_name(k.connection_id, k.contact_id)) AS title,
    person(s.connection_id, s.sender_id) AS sender, s.from_me, s.kind, s.sent_at AS at,
    s.current, s.deleted, s.text
FROM edge e
LEFT JOIN page s ON true
LEFT JOIN connections c ON c.id = s.connection_id
LEFT JOIN chats k ON k.connection_id = s.connection_id AND k.id = s.chat_id
LEFT JOIN groups g ON k.kind = 'group' AND g.connection_id = k.connection_id
    AND g.address = k.address
ORDER BY s.sent_at DESC, s.version_id DESC;

-- name: index_messages
-- Make the words of some messages.
SELECT indexed, behind, filling FROM index_messages($1);

-- name: search_complete
-- Whether the messages of before the index are in it.
SELECT NOT EXISTS (
    SELECT FROM connections c
    LEFT JOIN search_progress p ON p.connection_id = c.id
    WHERE coalesce(p.oldest, 1) > 0 AND EXISTS (
        SELECT FROM messages m WHERE m.connection_id = c.id)) AS complete;

-- name: search_waiting
-- How many messages are not in the index, new ones and old ones; no more than some are counted.
SELECT count(*) AS waiting FROM (
    SELECT FROM connections c
    LEFT JOIN search_progress p ON p.connection_id = c.id
    CROSS JOIN LATERAL (
        SELECT FROM (
            SELECT FROM messages m WHERE m.connection_id = c.id AND m.id > coalesce(p.newest, 0)
            ORDER BY m.id LIMIT $1) new
        UNION ALL
        SELECT FROM (
            SELECT FROM messages m WHERE m.connection_id = c.id AND m.id <= coalesce(p.oldest, 0)
            ORDER BY m.id LIMIT $1) old) w
    LIMIT $1) counted;

-- name: reopen_conversation
-- Somebody has more to do with a conversation; between batches, never in the middle of one.
WITH locked AS (
    SELECT n.connection_id FROM counters n
    JOIN conversations w ON w.connection_id = n.connection_id AND w.id = $1
    FOR UPDATE OF n)
UPDATE conversations v SET status = 'waiting', closed_at = NULL FROM locked
WHERE v.id = $1 AND v.connection_id = locked.connection_id AND v.status = 'closed';

-- name: live_conversation
-- The live one of the same chat.
SELECT o.id FROM connections c
JOIN conversations v ON v.connection_id = c.id AND v.id = $1
JOIN conversations o ON o.connection_id = v.connection_id AND o.chat_id = v.chat_id
    AND o.status <> 'closed';
