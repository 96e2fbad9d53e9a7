-- The statements of PostgresGaps, loaded by name.

-- name: gaps
-- Gaps of one connection or of all, the newest first.
WITH page AS (
    SELECT g.connection_id, g.id FROM gaps g
    JOIN connections c ON c.id = g.connection_id
    WHERE ($1::text IS NULL OR c.name = $1) AND ($2::bigint IS NULL OR g.id < $2)
    ORDER BY g.id DESC LIMIT $3
)
SELECT d.* FROM page
JOIN gap_details d ON d.connection_id = page.connection_id AND d.id = page.id
ORDER BY d.id DESC;

-- name: open_gaps
-- Those that are not closed.
WITH page AS (
    SELECT g.connection_id, g.id FROM gaps g
    JOIN connections c ON c.id = g.connection_id
    WHERE g.closed_at IS NULL
        AND ($1::text IS NULL OR c.name = $1) AND ($2::bigint IS NULL OR g.id < $2)
    ORDER BY g.id DESC LIMIT $3
)
SELECT d.* FROM page
JOIN gap_details d ON d.connection_id = page.connection_id AND d.id = page.id
ORDER BY d.id DESC;

-- name: gap
-- One gap.
SELECT d.* FROM gap_details d WHERE d.id = $1;

-- name: accept_gap
-- Close a gap as it is; between batches, never in the middle of one.
WITH locked AS (
    SELECT n.connection_id FROM counters n
    JOIN gaps w ON w.connection_id = n.connection_id AND w.id = $1
    FOR UPDATE OF n)
UPDATE gaps g SET closed_at = $3, resolution = 'accepted', accepted_by = $2 FROM locked
WHERE g.id = $1 AND g.connection_id = locked.connection_id
    AND g.to_at IS NOT NULL AND g.closed_at IS NULL
RETURNING g.id;

-- name: gap_statistics
-- What is open, over all connections.
SELECT count(*) FILTER (WHERE d.to_at IS NOT NULL) AS open,
    coalesce(sum(d.missing) FILTER (WHERE d.to_at IS NOT NULL), 0)::bigint AS missing,
    coalesce(sum(d.waiting) FILTER (WHERE d.to_at IS NOT NULL), 0)::bigint AS waiting,
    coalesce(sum(d.in_quarantine) FILTER (WHERE d.to_at IS NOT NULL), 0)::bigint
        AS in_quarantine,
    count(*) FILTER (WHERE d.to_at IS NOT NULL AND d.device_replaced) AS device_replaced,
    count(*) FILTER (WHERE d.to_at IS NULL) AS ongoing
FROM gap_details d WHERE d.closed_at IS NULL;

-- name: forget_gap_items
-- What belonged to gaps that closed before $1, some at a time.
DELETE FROM gap_items i
USING (
    SELECT j.connection_id, j.gap_id, j.kind, j.item_id
    FROM gaps g
    JOIN gap_items j ON j.connection_id = g.connection_id AND j.gap_id = g.id
    WHERE g.closed_at < $1 LIMIT $2
) old
WHERE i.connection_id = old.connection_id AND i.gap_id = old.gap_id AND i.kind = old.kind
  AND i.item_id = old.item_id
RETURNING i.item_id;

-- name: forget_gaps
-- Gaps that closed before $1 and have no items any more, some at a time; the newest of each
-- connection stays.
DELETE FROM gaps g
USING (
    SELECT o.connection_id, o.id
    FROM connections c
    CROSS JOIN LATERAL (
        SELECT f.connection_id, f.id FROM gaps f
        WHERE f.connection_id = c.id AND f.closed_at < $1
            AND f.id < (SELECT max(n.id) FROM gaps n WHERE n.connection_id = c.id)
            AND NOT EXISTS (
                SELECT FROM gap_items i
                WHERE i.connection_id = f.connection_id AND i.gap_id = f.id)
        ORDER BY f.id LIMIT $2
    ) o
    LIMIT $2
) old
WHERE g.connection_id = old.connection_id AND g.id = old.id
RETURNING g.id;
