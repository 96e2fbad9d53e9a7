-- The statements of PostgresQueues, loaded by name.

-- name: claim_media
-- Take files that are due, those of live messages first; the lease ends at $3. What is due
-- after $4 was dated by a clock that was wrong: nothing is put off for so long.
WITH due AS (
    SELECT connection_id, message_id, live, next_attempt_at FROM media
    WHERE state = 'pending'
        AND (next_attempt_at IS NULL OR next_attempt_at <= $2 OR next_attempt_at > $4)
    ORDER BY live DESC, next_attempt_at NULLS FIRST, message_id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE media f SET claimed = true, attempts = f.attempts + 1, next_attempt_at = $3
    FROM due d
    WHERE f.connection_id = d.connection_id AND f.message_id = d.message_id
    RETURNING f.connection_id, f.message_id, f.kind, f.size, f.direct_path, f.attempts,
        d.live, d.next_attempt_at AS due_at
)
SELECT c.name AS connection, f.message_id, m.external_id, k.address AS chat,
    CASE k.kind WHEN 'direct' THEN ARRAY(
        SELECT a.address FROM contact_addresses a
        WHERE a.connection_id = k.connection_id AND a.contact_id = k.contact_id
        ORDER BY a.address COLLATE "C")
    ELSE ARRAY[k.address] END AS chat_addresses,
    m.from_me,
    ARRAY(
        SELECT a.address FROM contact_addresses a
        WHERE a.connection_id = m.connection_id AND a.contact_id = m.sender_id
        ORDER BY a.address COLLATE "C") AS senders,
    f.kind, f.size, m.raw, f.direct_path, f.attempts
FROM claimed f
JOIN connections c ON c.id = f.connection_id
JOIN messages m ON m.connection_id = f.connection_id AND m.id = f.message_id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
ORDER BY f.live DESC, f.due_at NULLS FIRST, f.message_id;

-- name: release_media
-- End all claims: those files are due at once.
UPDATE media SET claimed = false, next_attempt_at = NULL WHERE state = 'pending' AND claimed
RETURNING message_id;

-- name: next_media_at
-- When the next file is due: the epoch when one is due at once, nothing when none waits.
SELECT min(coalesce(next_attempt_at, to_timestamp(0))) AS at FROM media WHERE state = 'pending';

-- name: finish_media
-- What became of a file.
UPDATE media f SET state = $3, error = $4, claimed = false, next_attempt_at = $5,
    direct_path = coalesce($6, f.direct_path), blob_sha256 = $7, blob_size = $8,
    stored_at = CASE WHEN $3 = 'stored' THEN $9::timestamptz END,
    attempts = CASE WHEN $3 = 'pending' AND f.state <> 'pending' THEN 0 ELSE f.attempts END
FROM connections c
WHERE c.name = $1 AND f.connection_id = c.id AND f.message_id = $2
  AND f.state NOT IN ('stored', 'removed')
RETURNING f.message_id;

-- name: media_file
-- The file of a message.
SELECT c.name AS connection, f.message_id, f.kind, f.mimetype, f.name, f.size, f.sha256, f.state,
    f.attempts, f.next_attempt_at, f.blob_sha256, f.blob_size, f.error, f.stored_at
FROM connections c
JOIN media f ON f.connection_id = c.id AND f.message_id = $1;

-- name: media_list
-- Files, those of the newest messages first.
SELECT c.name AS connection, f.message_id, f.kind, f.mimetype, f.name, f.size, f.sha256, f.state,
    f.attempts, f.next_attempt_at, f.blob_sha256, f.blob_size, f.error, f.stored_at
FROM media f
JOIN connections c ON c.id = f.connection_id
WHERE ($1::text IS NULL OR c.name = $1) AND ($2::text IS NULL OR f.state = $2)
    AND ($3::bigint IS NULL OR f.message_id < $3)
ORDER BY f.message_id DESC LIMIT $4;

-- name: media_counts
-- Files by state.
SELECT f.state, count(*) AS files FROM media f
JOIN connections c ON c.id = f.connection_id
WHERE $1::text IS NULL OR c.name = $1
GROUP BY f.state;

-- name: media_to_expire
-- Files stored before a time, the oldest first.
SELECT c.name AS connection, f.message_id, f.kind, f.mimetype, f.name, f.size, f.sha256, f.state,
    f.attempts, f.next_attempt_at, f.blob_sha256, f.blob_size, f.error, f.stored_at
FROM media f
JOIN connections c ON c.id = f.connection_id
WHERE f.state = 'stored' AND f.stored_at < $1
ORDER BY f.stored_at, f.message_id LIMIT $2;

-- name: blob_users
-- How many messages have a file stored, or wait to be sent with it.
SELECT (SELECT count(*) FROM media WHERE blob_sha256 = $1 AND state = 'stored')
    + (SELECT count(*) FROM outbox
       WHERE state IN ('queued', 'sending') AND kind = 'media'
         AND lower(body ->> 'file') = encode($1, 'hex')) AS users;

-- name: forget_media
-- The time of keeping a file is over.
UPDATE media f SET state = 'removed' FROM connections c
WHERE c.name = $1 AND f.connection_id = c.id AND f.message_id = $2 AND f.state = 'stored'
RETURNING f.message_id;

-- name: enqueue
-- Queue a message, unless its key is known.
INSERT INTO outbox AS o (connection_id, key, external_id, kind, chat, body, fingerprint, state,
    created_at, updated_at)
SELECT c.id, $2, $3, $4, $5, $6::text::jsonb, $7, 'queued', $8, $8
FROM connections c WHERE c.name = $1
ON CONFLICT (connection_id, key) DO NOTHING
RETURNING o.fingerprint, o.id, $1::text AS connection, o.key, o.external_id, o.kind, o.chat,
    o.body::text, o.state, o.reason, o.created_at, o.updated_at, o.sent_at;

-- name: outbox_by_key
-- The message that was queued under a key.
SELECT o.fingerprint, o.id, c.name AS connection, o.key, o.external_id, o.kind, o.chat,
    o.body::text, o.state, o.reason, o.created_at, o.updated_at, o.sent_at
FROM outbox o JOIN connections c ON c.id = o.connection_id
WHERE c.name = $1 AND o.key = $2;

-- name: outbox_pending
-- What is queued, in order.
SELECT o.id, c.name AS connection, o.key, o.external_id, o.kind, o.chat, o.body::text, o.state,
    o.reason, o.created_at, o.updated_at, o.sent_at
FROM outbox o JOIN connections c ON c.id = o.connection_id
WHERE c.name = $1 AND o.state = 'queued'
ORDER BY o.id LIMIT $2;

-- name: outbox_row
-- One message to send.
SELECT o.id, c.name AS connection, o.key, o.external_id, o.kind, o.chat, o.body::text, o.state,
    o.reason, o.created_at, o.updated_at, o.sent_at
FROM connections c JOIN outbox o ON o.connection_id = c.id AND o.id = $2
WHERE $1::text IS NULL OR c.name = $1;

-- name: outbox_list
-- Messages to send, the newest first.
SELECT o.id, c.name AS connection, o.key, o.external_id, o.kind, o.chat, o.body::text, o.state,
    o.reason, o.created_at, o.updated_at, o.sent_at
FROM outbox o JOIN connections c ON c.id = o.connection_id
WHERE ($1::text IS NULL OR c.name = $1) AND ($2::text IS NULL OR o.state = $2)
  AND ($3::bigint IS NULL OR o.id < $3)
ORDER BY o.id DESC LIMIT $4;

-- name: outbox_counts
-- Messages to send by state.
SELECT o.state, count(*) AS messages FROM outbox o
JOIN connections c ON c.id = o.connection_id
WHERE $1::text IS NULL OR c.name = $1
GROUP BY o.state;

-- name: outbox_set_payload
-- Keep the composed plaintext; the first one stays. Of a message to somebody who was forgotten
-- meanwhile, none is kept.
UPDATE outbox o
SET payload = CASE WHEN o.reason IS DISTINCT FROM 'forgotten' THEN coalesce(o.payload, $3) END
FROM connections c
WHERE c.name = $1 AND o.connection_id = c.id AND o.id = $2
RETURNING coalesce(o.payload, $3) AS payload;

-- name: settle_interrupted
-- What was being sent when the sender died may have left, or not. Between batches: a batch that
-- moves several rows must not meet us half-way.
WITH locked AS (
    SELECT n.connection_id FROM counters n
    JOIN connections c ON c.id = n.connection_id AND c.name = $1
    FOR UPDATE OF n)
UPDATE outbox o SET state = 'unknown', reason = 'interrupted', updated_at = $2 FROM locked
WHERE o.connection_id = locked.connection_id AND o.state = 'sending'
RETURNING o.id, $1::text AS connection, o.key, o.external_id, o.kind, o.chat, o.body::text,
    o.state, o.reason, o.created_at, o.updated_at, o.sent_at;

-- name: outbox_retry
-- An operator wants a message sent again that may have been sent.
UPDATE outbox o SET state = 'queued', reason = NULL, updated_at = $3 FROM connections c
WHERE ($1::text IS NULL OR c.name = $1) AND o.connection_id = c.id AND o.id = $2
  AND o.state = 'unknown'
RETURNING o.id, c.name AS connection, o.key, o.external_id, o.kind, o.chat, o.body::text,
    o.state, o.reason, o.created_at, o.updated_at, o.sent_at;

-- name: sent_message
-- A message of ours by its stanza id.
SELECT o.id, o.external_id, o.kind, o.chat, o.state, o.payload, o.created_at
FROM outbox o JOIN connections c ON c.id = o.connection_id
WHERE c.name = $1 AND o.external_id = $2;

-- name: forget_payloads
-- Drop plaintext that nobody will ask for again, a bounded number at a time.
UPDATE outbox SET payload = NULL WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM outbox
    WHERE payload IS NOT NULL AND created_at < $1 AND state NOT IN ('queued', 'sending')
    LIMIT 1000
    FOR UPDATE SKIP LOCKED))
RETURNING id;

-- name: history_pending
-- Chunks to import, those on demand first.
SELECT c.name AS connection, h.key, h.sealed, h.sync_type, h.chunk_order, h.progress,
    h.request_id, h.state, h.position, h.offered_at
FROM history_chunks h JOIN connections c ON c.id = h.connection_id
WHERE ($1::text IS NULL OR c.name = $1) AND h.state IN ('pending', 'importing')
ORDER BY (h.sync_type = 'on_demand') DESC, h.id LIMIT $2;

-- name: history_chunks
-- The chunks of a connection by state, and how far they are.
SELECT count(*) FILTER (WHERE h.state = 'pending') AS pending,
    count(*) FILTER (WHERE h.state = 'importing') AS importing,
    count(*) FILTER (WHERE h.state = 'done') AS done,
    count(*) FILTER (WHERE h.state = 'failed') AS failed,
    coalesce(sum(h.position), 0)::bigint AS position, coalesce(sum(h.total), 0)::bigint AS total,
    max(h.progress) FILTER (WHERE h.state = 'done'
        AND h.sync_type IN ('initial_bootstrap', 'recent', 'full')) AS percent
FROM history_chunks h JOIN connections c ON c.id = h.connection_id
WHERE c.name = $1;

-- name: history_overview
-- The imports of all connections in a line each.
SELECT c.name AS connection,
    max(h.progress) FILTER (WHERE h.state = 'done'
        AND h.sync_type IN ('initial_bootstrap', 'recent', 'full')) AS percent,
    coalesce(sum(h.position), 0)::bigint AS messages,
    count(*) FILTER (WHERE h.state IN ('pending', 'importing')) AS waiting,
    count(*) FILTER (WHERE h.state = 'failed') AS failed
FROM history_chunks h JOIN connections c ON c.id = h.connection_id
GROUP BY c.name ORDER BY c.name COLLATE "C";

-- name: history_chats
-- The imported messages of a connection by chat.
SELECT h.chat, h.offered, h.stored, h.duplicate, h.failed
FROM history_chats h JOIN connections c ON c.id = h.connection_id
WHERE c.name = $1
ORDER BY h.chat COLLATE "C";

-- name: history_errors
-- Why chunks failed, the newest first.
SELECT coalesce(h.error, 'no error told') AS error
FROM history_chunks h JOIN connections c ON c.id = h.connection_id
WHERE c.name = $1 AND h.state = 'failed'
ORDER BY h.updated_at DESC, h.id DESC LIMIT 10;

-- name: history_retry
-- Failed chunks are tried again where they stopped.
UPDATE history_chunks h SET state = 'pending', error = NULL, updated_at = $2 FROM connections c
WHERE c.name = $1 AND h.connection_id = c.id AND h.state = 'failed'
RETURNING h.id;

-- name: app_state
-- The version of a collection.
SELECT s.version, s.hash FROM app_state s JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.collection = $2;

-- name: app_state_values
-- Value MACs by index MAC.
SELECT s.index_mac, s.value_mac FROM app_state_macs s
JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.collection = $2 AND s.index_mac = ANY ($3::bytea[]);

-- name: device_lists
-- The devices of accounts.
SELECT d.account, d.devices FROM device_lists d
JOIN connections c ON c.id = d.connection_id
WHERE c.name = $1 AND d.account = ANY ($2::text[]);
