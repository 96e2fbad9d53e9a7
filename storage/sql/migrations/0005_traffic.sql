-- How busy an account was, hour by hour: what is usual tells whether a silence is suspicious.
CREATE TABLE traffic_hours (
    connection_id integer REFERENCES connections,
    hour bigint,                               -- since the epoch
    active integer NOT NULL CHECK (active BETWEEN 0 AND 60),  -- minutes in which a message came
    minutes real NOT NULL CHECK (minutes BETWEEN 0 AND 60),   -- that were listened to
    PRIMARY KEY (connection_id, hour)
);
