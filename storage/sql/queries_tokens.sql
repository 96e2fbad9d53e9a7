-- The statements of PostgresTokens, loaded by name.

-- name: tokens
-- All tokens, in the order of their making.
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at
FROM tokens ORDER BY created_at, id;

-- name: add_token
-- A new token, unless it or its name is there.
INSERT INTO tokens (id, name, hash, scopes, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING;

-- name: token
-- One token.
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at
FROM tokens WHERE id = $1;

-- name: revoke_token
-- Revokes a token; the first time counts.
UPDATE tokens SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1
RETURNING id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at;

-- name: mark_tokens
-- When tokens were used.
UPDATE tokens k SET last_used_at = greatest(k.last_used_at, u.at)
FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at)
WHERE k.id = u.id;
