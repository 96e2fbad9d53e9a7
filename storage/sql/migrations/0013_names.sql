-- The words of a name, for search; as search_vector makes them. It calls nothing of ours, as an
-- index rests on it: that is made, and looked after, with no schema but PostgreSQL's in the path.
CREATE FUNCTION name_words(p_name text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 5000 AS $$
    SELECT array_to_tsvector(ARRAY(
        SELECT left(w.word, 48)
        FROM regexp_split_to_table(
            lower(regexp_replace(normalize(left(p_name, 1024), NFKD), '[\u0300-\u036f]+', '', 'g')),
            '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f\ufe00-\ufe0f]+'
        ) AS w (word)
        WHERE w.word <> ''))
$$;

CREATE INDEX contact_names_words ON contact_names USING gin (name_words(name));
CREATE INDEX groups_words ON groups USING gin (name_words(subject));
