-- What holds over all replicas.

-- Who works on a delivery, and until when others leave it alone.
ALTER TABLE inbox ADD COLUMN claimed_by TEXT;
ALTER TABLE inbox ADD COLUMN claimed_until BIGINT;

-- Environments whose commit is being built.
CREATE TABLE builds (
    repo     BIGINT NOT NULL,
    pr       BIGINT NOT NULL,
    began_at BIGINT NOT NULL,
    PRIMARY KEY (repo, pr)
);

-- Writes on GitHub within the last hour; those of the journal count.
CREATE TABLE writes (
    seq  SERIAL_KEY,
    repo BIGINT NOT NULL,
    pr   BIGINT NOT NULL,
    at   BIGINT NOT NULL
);
CREATE INDEX writes_at ON writes (at);
INSERT INTO writes (repo, pr, at)
SELECT repo, pr, at FROM journal
WHERE begin_id IS NULL AND kind IN ('comment', 'create-deployment', 'set-deployment') ORDER BY seq DESC LIMIT 400;

-- Whose records these are: one row.
CREATE TABLE installation (
    one    BIGINT NOT NULL PRIMARY KEY,
    secret TEXT   NOT NULL
);
