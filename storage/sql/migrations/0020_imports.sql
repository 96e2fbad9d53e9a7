-- Conversations that an import made, under the keys that they have in the archive: whatever becomes
-- of the chat here, the same archive finds them again.
CREATE TABLE imported_conversations (
    connection_id integer,
    conversation_id bigint,
    opened_at timestamptz NOT NULL,            -- these two: the key
    nth integer NOT NULL CHECK (nth > 0),
    messages bigint NOT NULL CHECK (messages >= 0),  -- that it had there
    PRIMARY KEY (connection_id, conversation_id),
    FOREIGN KEY (connection_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);
