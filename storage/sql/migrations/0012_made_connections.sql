-- Connections that were made through the API, with their settings; those of the configuration
-- file are not here.
CREATE TABLE made_connections (
    connection_id integer PRIMARY KEY REFERENCES connections,
    sealed bytea NOT NULL,                     -- JSON: a [[connections]] table
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
