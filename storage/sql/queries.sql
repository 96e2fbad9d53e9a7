-- The statements of PostgresStorage, loaded by name.

-- name: apply_batch
-- Commit one batch of envelopes: see functions.sql.
SELECT ord, verdict, message_id, conversation_id, opened, reopened, filled, retries
FROM apply_batch($1::text::jsonb, $2::text[], $3::bytea[], $4::bytea[], $5::bytea[]);

-- name: ensure_connection
-- Create a connection with its counters and its own contact, or update its rules.
WITH ensured AS (
    INSERT INTO connections (name, reopen_window, reopen_from, team_reopens, created_at)
    VALUES ($1, $2::double precision * interval '1 second', $3, $4, $5)
    ON CONFLICT (name) DO UPDATE SET reopen_window = excluded.reopen_window,
        reopen_from = excluded.reopen_from, team_reopens = excluded.team_reopens
    RETURNING id
), counted AS (
    INSERT INTO counters (connection_id) SELECT id FROM ensured ON CONFLICT DO NOTHING
)
INSERT INTO contacts (connection_id, is_self, created_at) SELECT id, true, $5 FROM ensured
ON CONFLICT DO NOTHING;

-- name: set_wanted
-- Remember whether a connection should run.
UPDATE connections SET wanted = $2 WHERE name = $1 RETURNING id;

-- name: quarantine
-- Keep a message that could not be stored, and commit what else its envelope holds.
SELECT quarantine_stanza($6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17),
    (SELECT count(*)
     FROM apply_batch($1::text::jsonb, $2::text[], $3::bytea[], $4::bytea[], $5::bytea[]));

-- name: record_event
-- Append a transition of a connection.
INSERT INTO connection_events (connection_id, at, previous, state, reason, sentence, retry, until)
SELECT id, $2, $3, $4, $5, $6, $7, $8 FROM connections WHERE name = $1
RETURNING id;

-- name: save_traffic
-- Add to what is known of some hours of a connection, and forget the oldest.
WITH told AS (
    SELECT c.id AS connection_id, h.hour, h.active, h.minutes
    FROM connections c, unnest($2::bigint[], $3::integer[], $4::real[]) AS h(hour, active, minutes)
    WHERE c.name = $1
), forgotten AS (
    DELETE FROM traffic_hours f USING (
        SELECT connection_id, max(hour) - $5 AS oldest FROM told GROUP BY 1) o
    WHERE f.connection_id = o.connection_id AND f.hour < o.oldest
)
INSERT INTO traffic_hours AS k (connection_id, hour, active, minutes)
SELECT connection_id, hour, active, minutes FROM told
ON CONFLICT (connection_id, hour) DO UPDATE SET
    active = least(60, k.active + excluded.active),
    minutes = least(60, k.minutes + excluded.minutes);

-- name: load_traffic
-- What is known of the hours of a connection, the oldest first.
SELECT h.hour, h.active, h.minutes FROM traffic_hours h
WHERE h.connection_id = (SELECT id FROM connections WHERE name = $1)
ORDER BY h.hour;

-- name: load_device
-- The sealed device of a connection.
SELECT '' AS key, d.sealed FROM device_identity d
JOIN connections c ON c.id = d.connection_id
WHERE c.name = $1 AND '' = ANY ($2::text[]);

-- name: load_session
-- Sealed sessions by address.
SELECT s.key, s.sealed FROM signal_sessions s
JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.key = ANY ($2::text[]);

-- name: load_identity
-- Sealed identity keys by address.
SELECT s.key, s.sealed FROM signal_identities s
JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.key = ANY ($2::text[]);

-- name: load_prekey
-- Sealed one-time prekeys by id.
SELECT s.key, s.sealed FROM signal_prekeys s
JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.key = ANY ($2::text[]);

-- name: load_sender_key
-- Sealed sender keys by group and address.
SELECT s.key, s.sealed FROM signal_sender_keys s
JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.key = ANY ($2::text[]);

-- name: load_peer
-- Sealed messages of the own phone by stanza id.
SELECT s.key, s.sealed FROM peer_messages s
JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.key = ANY ($2::text[]);

-- name: load_app_state_key
-- Sealed keys of the app state by id.
SELECT s.key, s.sealed FROM app_state_keys s
JOIN connections c ON c.id = s.connection_id
WHERE c.name = $1 AND s.key = ANY ($2::text[]);

-- name: has_app_state_keys
-- A row if there is any key of the app state.
SELECT 1 FROM connections c
WHERE c.name = $1 AND EXISTS (SELECT FROM app_state_keys s WHERE s.connection_id = c.id);

-- name: connections
-- Every connection with its counts, and its state before the daemon stopped.
SELECT c.name, c.wanted, d.jid IS NOT NULL AS paired, d.jid, n.last_message_at, n.messages,
    n.duplicates, n.quarantined, n.undecryptable,
    coalesce(o.ended_at, greatest(o.at, l.alive_at)) AS alive_at,
    s.state, coalesce(s.reason, '') AS reason, coalesce(s.sentence, '') AS sentence, s.until
FROM connections c
JOIN counters n ON n.connection_id = c.id
LEFT JOIN device_identity d ON d.connection_id = c.id
LEFT JOIN LATERAL (
    SELECT e.state, e.reason, e.sentence, e.until FROM connection_events e
    WHERE e.connection_id = c.id AND e.reason <> 'shutdown'
    ORDER BY e.id DESC LIMIT 1
) s ON true
LEFT JOIN LATERAL (
    SELECT e.at, (
        SELECT f.at FROM connection_events f
        WHERE f.connection_id = c.id AND f.id > e.id ORDER BY f.id LIMIT 1) AS ended_at
    FROM connection_events e
    WHERE e.connection_id = c.id AND e.state = 'online' ORDER BY e.id DESC LIMIT 1
) o ON true
LEFT JOIN (SELECT alive_at FROM daemon_lives ORDER BY id DESC LIMIT 1) l ON o.at IS NOT NULL
ORDER BY c.name COLLATE "C";

-- name: events
-- The newest transitions of a connection, newest first.
SELECT e.at, c.name AS connection, e.previous, e.state, e.reason, e.sentence, e.retry, e.until
FROM connection_events e
JOIN connections c ON c.id = e.connection_id
WHERE c.name = $1
ORDER BY e.id DESC LIMIT $2;

-- name: conversations
-- Conversations, the most recently active first; what went into another one is part of that.
SELECT v.id, c.name AS connection, k.address AS chat,
    coalesce(g.subject, contact_name(k.connection_id, k.contact_id)) AS title,
    v.status, v.messages, v.opened_at, v.last_message_at, v.closed_at, v.reopened, v.merged_into,
    possible_hole(v.connection_id, v.id, v.last_message_at) AS possible_hole
FROM conversations v
JOIN connections c ON c.id = v.connection_id
JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id
LEFT JOIN groups g ON k.kind = 'group' AND g.connection_id = k.connection_id
    AND g.address = k.address
WHERE ($1::text IS NULL OR v.status = $1) AND ($2::text IS NULL OR c.name = $2)
    AND v.merged_into IS NULL
ORDER BY v.last_message_at DESC, v.id DESC LIMIT $3;

-- name: conversation
-- One conversation.
SELECT v.id, c.name AS connection, k.address AS chat,
    coalesce(g.subject, contact_name(k.connection_id, k.contact_id)) AS title,
    v.status, v.messages, v.opened_at, v.last_message_at, v.closed_at, v.reopened, v.merged_into,
    possible_hole(v.connection_id, v.id, v.last_message_at) AS possible_hole
FROM connections c
JOIN conversations v ON v.connection_id = c.id AND v.id = $1
JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id
LEFT JOIN groups g ON k.kind = 'group' AND g.connection_id = k.connection_id
    AND g.address = k.address;

-- name: open_conversation
-- Somebody takes a conversation on; between batches, never in the middle of one.
WITH locked AS (
    SELECT n.connection_id FROM counters n
    JOIN conversations w ON w.connection_id = n.connection_id AND w.id = $1
    FOR UPDATE OF n)
UPDATE conversations v SET status = 'open', closed_at = NULL FROM locked
WHERE v.id = $1 AND v.connection_id = locked.connection_id AND v.status <> 'open';

-- name: close_conversation
-- Somebody is done with a conversation; between batches, or a message of the running one
-- could end in a closed conversation that nobody looks at.
WITH locked AS (
    SELECT n.connection_id FROM counters n
    JOIN conversations w ON w.connection_id = n.connection_id AND w.id = $1
    FOR UPDATE OF n)
UPDATE conversations v SET status = 'closed', closed_at = $2 FROM locked
WHERE v.id = $1 AND v.connection_id = locked.connection_id AND v.status <> 'closed';

-- name: list_messages
-- Messages of a connection in the order of their ids, each with all addresses of its author.
SELECT m.id, c.name AS connection, m.conversation_id AS conversation, k.address AS chat,
    ARRAY(
        SELECT a.address FROM contact_addresses a
        WHERE a.connection_id = m.connection_id AND a.contact_id = m.sender_id
        ORDER BY a.address COLLATE "C"
    ) AS senders,
    m.external_id, m.kind, m.text, m.from_me, m.sent_at
FROM messages m
JOIN connections c ON c.id = m.connection_id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
WHERE c.name = $1 AND m.id > $2
ORDER BY m.id LIMIT $3;

-- name: count_messages
-- The counters of all connections together.
SELECT coalesce(sum(messages), 0)::bigint AS messages,
    coalesce(sum(duplicates), 0)::bigint AS duplicates,
    coalesce(sum(undecryptable), 0)::bigint AS undecryptable,
    coalesce(sum(quarantined), 0)::bigint AS quarantined
FROM counters;

-- name: ping
-- One round trip.
SELECT 1;

-- name: server_encoding
-- Only UTF8 holds every message.
SELECT current_setting('server_encoding');

-- name: lock_schema
-- One daemon at a time changes the schema.
SELECT pg_advisory_lock(7377481550917955437);

-- name: unlock_schema
-- The schema is as this daemon wants it.
SELECT pg_advisory_unlock(7377481550917955437);

-- name: hold_database
-- One daemon at a time uses a database, for as long as this session lasts.
SELECT pg_try_advisory_lock(7377481550917955438);

-- name: database_holder
-- Who has it.
SELECT a.application_name, host(a.client_addr)
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32) | l.objid::bigint = 7377481550917955438;

-- name: create_migrations
-- What has been applied; number 0 is the functions and views.
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: applied_migrations
-- The migrations this database has seen.
SELECT number, name, checksum FROM schema_migrations ORDER BY number;

-- name: record_migration
-- A migration, or the functions, are in place.
INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)
ON CONFLICT (number) DO UPDATE SET name = excluded.name, checksum = excluded.checksum,
    applied_at = now();
