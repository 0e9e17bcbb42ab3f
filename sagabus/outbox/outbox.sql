-- The outbox table and all that is asked of it. {table} is its name, {channel} what listeners hear, as they are quoted;
-- a line with two dashes, `name` and a colon begins a query.

-- name: create
-- One row a message that its transaction has committed and that has not been relayed. There is no key but the position:
-- who writes never waits for another writer, and a message written twice is sent twice under one id.
CREATE TABLE IF NOT EXISTS {table} (
    position      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id    text        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('c', 'e')),  -- a command to an endpoint, an event of a topic
    destination   text        NOT NULL,
    partition_key text        NOT NULL,
    body          bytea       NOT NULL,                             -- the envelope, JSON
    written_at    timestamptz NOT NULL DEFAULT now(),
    tries         integer     NOT NULL DEFAULT 0,                   -- how often it was refused
    retry_at      timestamptz,                                      -- not before then, where it was
    problem       text                                              -- why it was
);

-- name: write
-- Listeners hear of it when the transaction commits, and once for all that it wrote.
WITH written AS (
    INSERT INTO {table} (message_id, kind, destination, partition_key, body) VALUES (%s, %s, %s, %s, %s) RETURNING 1
)
SELECT pg_notify({channel}, '') FROM written

-- name: write_quietly
INSERT INTO {table} (message_id, kind, destination, partition_key, body) VALUES (%s, %s, %s, %s, %s)

-- name: take
-- What others are relaying is passed over; what was put off waits for its time.
SELECT position, message_id, kind, destination, partition_key, body, tries
FROM {table}
WHERE retry_at IS NULL OR retry_at <= clock_timestamp()
ORDER BY position
LIMIT %s
FOR UPDATE SKIP LOCKED

-- name: remove
DELETE FROM {table} WHERE position = ANY(%s)

-- name: put_off
UPDATE {table}
SET tries = tries + 1, problem = %s, retry_at = clock_timestamp() + make_interval(secs => %s)
WHERE position = %s

-- name: next_retry
SELECT extract(epoch FROM min(retry_at) - clock_timestamp())::float8 FROM {table} WHERE retry_at IS NOT NULL

-- name: waiting
SELECT count(*), extract(epoch FROM clock_timestamp() - min(written_at))::float8, count(*) FILTER (WHERE tries > 0)
FROM {table}
