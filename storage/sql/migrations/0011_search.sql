-- The words of messages, for search; made in the background. No reference to messages: those are
-- not to be touched for it, and a message that a merge takes away may come back.
CREATE TABLE search_documents (
    connection_id integer,
    message_id bigint,
    edit boolean NOT NULL,                     -- a text that another message got
    sent_at timestamptz NOT NULL,
    words tsvector NOT NULL,                   -- see search_words
    PRIMARY KEY (connection_id, message_id)
);

CREATE INDEX search_documents_words ON search_documents USING gin (words);
CREATE INDEX search_documents_recent ON search_documents (sent_at, message_id);

-- Which messages are in: from "oldest" (exclusive) to "newest".
CREATE TABLE search_progress (
    connection_id integer PRIMARY KEY REFERENCES connections,
    newest bigint NOT NULL,
    oldest bigint NOT NULL                     -- 0: all older ones are in
) WITH (fillfactor = 50);

-- Messages whose text has changed since.
CREATE TABLE search_again (
    connection_id integer,
    message_id bigint,
    PRIMARY KEY (connection_id, message_id)
);

-- Lists are read by activity, whatever the status; live ones have an index of their own.
CREATE INDEX conversations_active ON conversations (last_message_at, id);
DROP INDEX conversations_recent;

-- Files by message, over all connections.
CREATE INDEX media_newest ON media (message_id);
