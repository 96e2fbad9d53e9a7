-- What an operator asks of the database itself: how big it is, what is in it, how it may be kept.

-- name: table_sizes
-- Every table with its rows, about, and its bytes; the biggest first.
SELECT c.relname::text AS name, c.reltuples::bigint AS rows,
    pg_table_size(c.oid) AS table_bytes, pg_indexes_size(c.oid) AS index_bytes,
    pg_total_relation_size(c.oid) AS total_bytes,
    coalesce(s.n_dead_tup, 0) AS dead_rows,
    greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY total_bytes DESC, name;

-- name: database_facts
-- The database as a whole.
SELECT pg_database_size(current_database()) AS bytes,
    current_setting('server_version_num')::integer / 10000 AS server_major,
    current_setting('server_version') AS server_version,
    to_regclass('schema_migrations') IS NOT NULL AS ours,
    (SELECT count(*) FROM pg_class
     WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')) AS tables;

-- name: connection_counts
-- What each connection has stored, as its counters have it.
SELECT c.name, k.messages, k.undecryptable, k.last_message_at
FROM connections c JOIN counters k ON k.connection_id = c.id
ORDER BY k.messages DESC, c.name;

-- name: growth
-- Messages that were stored in the last so many days, and for how many of them there are figures.
SELECT coalesce(sum(q.processed), 0)::bigint AS messages,
    coalesce(extract(epoch FROM now()) / 86400 - min(q.quarter) / 96.0, 0)::double precision AS days
FROM connections c
JOIN sync_quarters q ON q.connection_id = c.id
    AND q.quarter > (extract(epoch FROM now()) / 900 - $1::double precision * 96)::bigint;

-- name: worth_keeping
-- What would be lost with this database.
SELECT (SELECT count(*) FROM connections) AS connections,
    (SELECT count(*) FROM device_identity) AS paired,
    (SELECT coalesce(sum(messages), 0)::bigint FROM counters) AS messages,
    (SELECT count(*) FROM quarantine) AS quarantined,
    (SELECT max(last_message_at) FROM counters) AS last_message_at,
    to_regclass('tokens') IS NOT NULL AS may_have_tokens,
    to_regclass('made_connections') IS NOT NULL AS may_have_made;

-- name: count_tokens
-- How many tokens are not revoked; older schemas have no such table.
SELECT count(*) AS rows FROM tokens WHERE revoked_at IS NULL;

-- name: count_made
-- How many connections were made through the API; older schemas have no such table.
SELECT count(*) AS rows FROM made_connections;

-- name: export_snapshot
-- A name for what this transaction sees, for others to see the same.
SELECT pg_export_snapshot() AS snapshot;

-- name: digest_statement
-- The text of a query that counts the rows of every table, and sums their hashes up. The alias is
-- no column's name, or it would mean that.
SELECT string_agg(
    format($f$SELECT %L AS name, count(*) AS rows, coalesce(sum((
            'x' || left(encode(sha256(convert_to("a row of it"::text, 'UTF8')), 'hex'), 16)
        )::bit(64)::bigint), 0)::text AS digest FROM %I.%I AS "a row of it"$f$,
        relname, nspname, relname),
    ' UNION ALL ' ORDER BY relname) AS statement
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p');

-- name: sealed_devices
-- The credentials of every connection that has some.
SELECT c.name, d.sealed FROM device_identity d JOIN connections c ON c.id = d.connection_id
ORDER BY c.name;
