-- The statements of PostgresErasure, loaded by name.

-- name: apply_batch_sifted
-- Commit one batch from which messages were dropped, and note that.
SELECT b.ord, b.verdict, b.message_id, b.conversation_id, b.opened, b.reopened, b.filled, b.retries
FROM note_forgotten($6::text::jsonb, $7) n
LEFT JOIN apply_batch($1::text::jsonb, $2::text[], $3::bytea[], $4::bytea[], $5::bytea[]) b
    ON true
ORDER BY b.ord;

-- name: note_forgotten
-- Note what was dropped, and who came back.
SELECT note_forgotten($1::text::jsonb, $2);

-- name: tombstones
-- All of them.
SELECT c.name AS connection, t.hash, extract(epoch FROM t.at)::double precision AS at,
    t.returned_at IS NOT NULL AS returned
FROM tombstones t
JOIN connections c ON c.id = t.connection_id;

-- name: known_addresses
-- All addresses of a person, by one of them or by a contact, on whatever connection they showed.
WITH RECURSIVE seed AS (
    SELECT a.address FROM connections c
    JOIN contact_addresses a ON a.connection_id = c.id AND a.contact_id = $1
    UNION
    SELECT a FROM unnest(ARRAY[$2]::text[]) AS a WHERE a IS NOT NULL
), known AS (
    SELECT address FROM seed
    UNION
    SELECT b.address
    FROM known k
    CROSS JOIN connections c
    JOIN contact_addresses a ON a.connection_id = c.id AND a.address = k.address
    JOIN contact_addresses b ON b.connection_id = a.connection_id AND b.contact_id = a.contact_id
)
SELECT address FROM known ORDER BY address COLLATE "C";

-- name: erasure_targets
-- What addresses mean on each connection: contacts, merged ones included, and traces.
SELECT c.id AS connection_id, c.name AS connection,
    ARRAY(
        WITH RECURSIVE person AS (
            SELECT a.contact_id AS id FROM contact_addresses a
            WHERE a.connection_id = c.id AND a.address = ANY ($1::text[])
            UNION
            SELECT m.id FROM person p
            JOIN contacts m ON m.connection_id = c.id AND m.merged_into = p.id
        )
        SELECT p.id FROM person p ORDER BY p.id
    ) AS contacts,
    EXISTS (
        SELECT FROM contact_addresses a
        JOIN contacts s ON s.connection_id = a.connection_id AND s.id = a.contact_id
        WHERE a.connection_id = c.id AND a.address = ANY ($1::text[]) AND s.is_self
    ) OR EXISTS (  -- before anything has shown the account as a contact
        SELECT FROM device_identity d
        WHERE d.connection_id = c.id
          AND regexp_replace(d.jid, ':[0-9]+@', '@') = ANY ($1::text[])) AS is_self,
    EXISTS (
        SELECT FROM group_members g
        WHERE g.connection_id = c.id AND g.address = ANY ($1::text[])) AS is_member,
    coalesce((
        SELECT sum(v.messages) FROM contact_addresses a
        JOIN chats k ON k.connection_id = a.connection_id AND k.kind = 'direct'
            AND k.contact_id = a.contact_id
        JOIN conversations v ON v.connection_id = k.connection_id AND v.chat_id = k.id
        WHERE a.connection_id = c.id AND a.address = (
            SELECT min(b.address) FROM contact_addresses b
            WHERE b.connection_id = c.id AND b.address = ANY ($1::text[]))), 0)::bigint AS messages,
    (SELECT contact_name(a.connection_id, a.contact_id) FROM contact_addresses a
     WHERE a.connection_id = c.id AND a.address = ANY ($1::text[])
     ORDER BY a.contact_id LIMIT 1) AS name
FROM connections c
WHERE $2::text IS NULL OR c.name = $2
ORDER BY c.id;

-- name: begin_erasure
-- Forget a person from now on.
SELECT begin_erasure($1::text::jsonb, $2, $3, $4) AS id;

-- name: erasure_step
-- Go on with erasing.
SELECT erasure_step($1, $2, $3, $4) AS phase;

-- name: erasures
-- Orders to forget, the newest first.
SELECT id, requested_by, version, requested_at, finished_at, connections, subject, phase, counts
FROM erasures
WHERE $1::bigint IS NULL OR id < $1
ORDER BY id DESC LIMIT $2;

-- name: erasure
-- One of them.
SELECT id, requested_by, version, requested_at, finished_at, connections, subject, phase, counts
FROM erasures WHERE id = $1;

-- name: unfinished_erasures
-- Those that are not done.
SELECT id FROM erasures WHERE finished_at IS NULL ORDER BY id;

-- name: erasure_work
-- Where one is, and on whom it works.
SELECT e.position, e.requested_at, w.connection_id, w.addresses
FROM erasures e
CROSS JOIN LATERAL (
    SELECT (e.work -> e.target ->> 'connection_id')::integer AS connection_id,
        ARRAY(SELECT jsonb_array_elements_text(e.work -> e.target -> 'addresses')) AS addresses
) w
WHERE e.id = $1;

-- name: naming_messages
-- Messages of others that name the person.
SELECT m.id, m.xmin::text AS version, m.kind, m.text, m.raw, m.detail, m.quoted_id,
    m.quoted_author, m.target_author, m.mentions
FROM erasure_items i
JOIN messages m ON m.connection_id = i.connection_id AND m.id = i.message_id
WHERE i.connection_id = $2 AND i.erasure_id = $1 AND NOT i.theirs
  AND i.message_id > (SELECT e.position FROM erasures e WHERE e.id = $1)
ORDER BY i.message_id LIMIT $3;

-- name: redact_messages
-- Put them back without that; cards of the person go whole.
SELECT redact_messages($1, $2, $3::bigint[], $4, $5::text::jsonb, $6::bytea[]);

-- name: quarantine_page
-- What is in quarantine, by id.
SELECT q.id, q.chat, q.sender, q.stanza, q.raw, q.kept FROM quarantine q
WHERE q.connection_id = $1 AND q.id > $2 AND q.received_at <= $3
ORDER BY q.id LIMIT $4;

-- name: erase_quarantined
-- Those of the person go; and the place where the next page begins.
WITH gone AS (
    DELETE FROM quarantine q WHERE q.connection_id = $2 AND q.id = ANY ($3::bigint[])
    RETURNING q.resolved_at
), counted AS (
    UPDATE counters k SET quarantined = k.quarantined
        - (SELECT count(*) FROM gone g WHERE g.resolved_at IS NULL)
    WHERE k.connection_id = $2 AND EXISTS (SELECT FROM gone g WHERE g.resolved_at IS NULL)
)
UPDATE erasures e SET position = $4, counts = e.counts || jsonb_build_object(
    'quarantine', coalesce((e.counts ->> 'quarantine')::bigint, 0) + (SELECT count(*) FROM gone))
WHERE e.id = $1;

-- name: erased_blobs
-- Files that messages have lost.
SELECT sha256 FROM erased_blobs ORDER BY erased_at, sha256 LIMIT $1;

-- name: blob_erased
-- One of them is dealt with.
DELETE FROM erased_blobs WHERE sha256 = $1;

-- name: retain_step
-- One step of a rule of retention.
SELECT s.last_id, s.messages, s.files
FROM connections c
CROSS JOIN LATERAL retain_step(c.id, $2, $3, $4, $5::text[], $6, $7, $8, $9) s
WHERE c.name = $1;

-- name: retain_rest
-- What else is too old.
SELECT retain_rest($1, $2, $3) AS rows;

-- name: record_retention
-- Remember what a sweep removed.
INSERT INTO retention_runs (connection_id, rule, began_at, ended_at, cutoff, messages, files)
SELECT c.id, $2, $3, $4, $5, $6, $7 FROM connections c WHERE c.name = $1;

-- name: retention_runs
-- What sweeps have removed, the newest first.
SELECT c.name AS connection, r.rule, r.began_at, r.ended_at, r.cutoff, r.messages, r.files
FROM retention_runs r
JOIN connections c ON c.id = r.connection_id
ORDER BY r.ended_at DESC, r.id DESC LIMIT $1;
