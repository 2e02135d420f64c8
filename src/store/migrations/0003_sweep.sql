-- What sweeps remember, and what people have stopped.

-- Since when something of ours has been seen to belong to no environment.
CREATE TABLE sweep_marks (
    kind     TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    mark     TEXT   NOT NULL,
    PRIMARY KEY (kind, id)
);

-- What sweeps have taken away, for as long as it counts.
CREATE TABLE sweep_removals (
    seq  SERIAL_KEY,
    kind TEXT   NOT NULL,
    id   TEXT   NOT NULL,
    at   BIGINT NOT NULL
);
CREATE INDEX sweep_removals_at ON sweep_removals (at);

-- The last sweep that was believed: one row.
CREATE TABLE sweep_last (
    one    BIGINT NOT NULL PRIMARY KEY,
    counts TEXT   NOT NULL
);

-- What is stopped, and until when. Repository and pull request 0: everywhere.
CREATE TABLE brakes (
    kind   TEXT   NOT NULL,
    repo   BIGINT NOT NULL,
    pr     BIGINT NOT NULL,
    brake  TEXT   NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (kind, repo, pr)
);
