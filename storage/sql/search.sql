-- Search: the words of messages are made in the background, see storage/search.py.

-- The words of a text: without accents, in lower case, split at everything that is no letter or
-- digit of ASCII, and at the signs of other scripts. Nothing that a text may hold makes it fail.
CREATE OR REPLACE FUNCTION search_words(p_text text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(left(w.word, 48) ORDER BY w.ord), '{}')
    FROM regexp_split_to_table(
        lower(left(
            regexp_replace(normalize(left(p_text, 65536), NFKD), '[\u0300-\u036f]+', '', 'g'),
            65536)),
        '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f\ufe00-\ufe0f]+'
    ) WITH ORDINALITY AS w (word, ord)
    WHERE w.word <> ''
$$;

-- The same for the index.
CREATE OR REPLACE FUNCTION search_vector(p_text text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(ARRAY(
        SELECT d.word FROM (
            SELECT DISTINCT u.word FROM unnest(search_words(p_text)) AS u (word)
        ) d ORDER BY d.word COLLATE "C" LIMIT 4000))
$$;

-- One term of a query: each of its words, the last one as a beginning if that is wanted.
CREATE OR REPLACE FUNCTION search_term(p_term text, p_beginning boolean) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_agg(
        '''' || u.word || '''' || CASE WHEN p_beginning AND u.ord = u.words THEN ':*' ELSE '' END,
        ' & ' ORDER BY u.ord)
    FROM (
        SELECT w.word, w.ord, count(*) OVER () AS words
        FROM unnest(search_words(p_term)) WITH ORDINALITY AS w (word, ord)
    ) u
$$;

CREATE OR REPLACE FUNCTION search_query(p_words text[], p_beginnings text[], p_without text[])
RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT concat_ws(' & ',
        (SELECT string_agg(search_term(t, false), ' & ') FROM unnest(p_words) AS u (t)),
        (SELECT string_agg(search_term(t, true), ' & ') FROM unnest(p_beginnings) AS u (t)),
        (SELECT string_agg('!(' || search_term(t, false) || ')', ' & ')
         FROM unnest(p_without) AS u (t)))::tsquery
$$;

-- Make the words of one connection's messages in a range of ids.
CREATE OR REPLACE FUNCTION index_range(p_connection integer, p_ids bigint[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO search_documents (connection_id, message_id, edit, sent_at, words)
    SELECT f.* FROM (
        SELECT m.connection_id, m.id, m.kind = 'edit', m.sent_at, search_vector(m.text) AS words
        FROM messages m
        WHERE m.connection_id = p_connection AND m.id = ANY (p_ids)
          AND m.state = 'stored' AND m.text IS NOT NULL AND (m.lane <> 'side' OR m.kind = 'edit')
        OFFSET 0
    ) f
    WHERE f.words <> ''::tsvector
    ON CONFLICT (connection_id, message_id) DO UPDATE
        SET edit = excluded.edit, sent_at = excluded.sent_at, words = excluded.words
$$;

-- One step: what has changed; or, if nothing has, what is new, then older ones from the newest
-- down. What has changed is a step of its own: the writer waits for its rows of search_again when
-- one of them changes once more. Ids become visible in their order, as there is one writer.
CREATE OR REPLACE FUNCTION index_messages(
    p_limit integer, OUT indexed integer, OUT behind boolean, OUT filling boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_row record;
    v_ids bigint[];
    v_left integer := p_limit;
    v_share integer := greatest(20, p_limit / 8);  -- nobody waits for one connection alone
BEGIN
    behind := false;
    INSERT INTO search_progress (connection_id, newest, oldest)
    SELECT c.id, m.id, m.id
    FROM connections c
    CROSS JOIN LATERAL (SELECT coalesce((
        SELECT n.id FROM messages n WHERE n.connection_id = c.id ORDER BY n.id DESC LIMIT 1
    ), 0) AS id) m
    WHERE NOT EXISTS (SELECT FROM search_progress p WHERE p.connection_id = c.id)
    ON CONFLICT DO NOTHING;

    FOR v_row IN
        WITH again AS (
            DELETE FROM search_again a USING (
                SELECT connection_id, message_id FROM search_again
                LIMIT p_limit FOR UPDATE SKIP LOCKED
            ) s
            WHERE a.connection_id = s.connection_id AND a.message_id = s.message_id
            RETURNING a.connection_id, a.message_id
        )
        SELECT connection_id, array_agg(message_id) AS ids FROM again GROUP BY connection_id
    LOOP
        DELETE FROM search_documents d
        WHERE d.connection_id = v_row.connection_id AND d.message_id = ANY (v_row.ids);
        PERFORM index_range(v_row.connection_id, v_row.ids);
        v_left := v_left - cardinality(v_row.ids);
    END LOOP;
    IF v_left < p_limit THEN
        behind := true;
        filling := EXISTS (SELECT FROM search_progress WHERE oldest > 0);
        indexed := p_limit - v_left;
        RETURN;
    END IF;

    FOR v_row IN SELECT * FROM search_progress ORDER BY random() LOOP
        EXIT WHEN v_left <= 0;
        v_ids := ARRAY(
            SELECT m.id FROM messages m
            WHERE m.connection_id = v_row.connection_id AND m.id > v_row.newest
            ORDER BY m.id LIMIT least(v_share, v_left));
        CONTINUE WHEN v_ids = '{}';
        PERFORM index_range(v_row.connection_id, v_ids);
        UPDATE search_progress SET newest = v_ids[cardinality(v_ids)]
        WHERE connection_id = v_row.connection_id;
        v_left := v_left - cardinality(v_ids);
        behind := behind OR cardinality(v_ids) = v_share;
    END LOOP;
    behind := behind OR v_left <= 0;

    FOR v_row IN SELECT * FROM search_progress WHERE oldest > 0 ORDER BY random() LOOP
        EXIT WHEN v_left <= 0;
        v_ids := ARRAY(
            SELECT m.id FROM messages m
            WHERE m.connection_id = v_row.connection_id AND m.id <= v_row.oldest
            ORDER BY m.id DESC LIMIT v_left);
        PERFORM index_range(v_row.connection_id, v_ids);
        UPDATE search_progress
        SET oldest = CASE WHEN cardinality(v_ids) < v_left THEN 0
            ELSE v_ids[cardinality(v_ids)] - 1 END
        WHERE connection_id = v_row.connection_id;
        v_left := v_left - cardinality(v_ids);
    END LOOP;
    filling := EXISTS (SELECT FROM search_progress WHERE oldest > 0);
    indexed := p_limit - v_left;
END
$$;

-- Texts in the index with the messages that have or had them.
CREATE VIEW search_versions AS
SELECT d.connection_id, d.message_id AS version_id, d.sent_at, d.words, r.text,
    m.id AS message_id, m.conversation_id, m.chat_id, m.sender_id, m.from_me, m.kind,
    coalesce(e.side_id, m.id) = d.message_id AS current,
    EXISTS (
        SELECT FROM message_deletions x
        WHERE x.connection_id = m.connection_id AND x.message_id = m.id) AS deleted
FROM search_documents d
JOIN messages r ON r.connection_id = d.connection_id AND r.id = d.message_id
JOIN messages m ON m.connection_id = d.connection_id AND m.id = CASE
    WHEN d.edit THEN (
        SELECT o.id FROM messages o
        WHERE o.connection_id = r.connection_id AND o.chat_id = r.chat_id
          AND o.sender_id = r.sender_id AND o.external_id = r.target_id AND o.id <> r.id)
    ELSE d.message_id END
LEFT JOIN LATERAL (
    SELECT v.side_id FROM message_edits v
    WHERE v.connection_id = m.connection_id AND v.message_id = m.id
    ORDER BY v.at DESC, v.sent_at_ms DESC, v.external_id COLLATE "C" DESC LIMIT 1
) e ON true;

-- The chats of a contact, by its id or by an address; of a group by its address.
CREATE OR REPLACE FUNCTION chats_of(p_contact bigint, p_address text)
RETURNS TABLE (connection_id integer, chat_id bigint) LANGUAGE sql STABLE AS $$
    SELECT k.connection_id, k.id FROM connections c
    JOIN chats k ON k.connection_id = c.id AND k.kind = 'direct' AND k.contact_id = p_contact
    UNION
    SELECT c.id, k.id FROM connections c
    CROSS JOIN LATERAL (SELECT chat_at(c.id, p_address) AS id OFFSET 0) k
    WHERE k.id IS NOT NULL
$$;
