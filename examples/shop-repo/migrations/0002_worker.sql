CREATE INDEX orders_by_status ON orders (status, updated_at);

CREATE TABLE worker_beat (
    name    TEXT PRIMARY KEY,
    seen_at BIGINT NOT NULL,
    handled BIGINT NOT NULL
);
