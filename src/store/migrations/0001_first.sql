-- SERIAL_KEY and BYTES are the two types whose names differ between SQLite and PostgreSQL; store/dialect.rs
-- fills them in. Everything else is plain: BIGINT and TEXT, times in milliseconds since the epoch, JSON as TEXT.

-- Deliveries of the webhook, as received. Bodies are zstd-compressed.
CREATE TABLE inbox (
    seq          SERIAL_KEY,
    guid         TEXT   NOT NULL UNIQUE,
    event        TEXT   NOT NULL,
    body         BYTES  NOT NULL,
    size         BIGINT NOT NULL,
    received_at  BIGINT NOT NULL,
    processed_at BIGINT
);
CREATE INDEX inbox_pending ON inbox (seq) WHERE processed_at IS NULL;
CREATE INDEX inbox_processed ON inbox (processed_at) WHERE processed_at IS NOT NULL;

-- Repositories that we have access to.
CREATE TABLE repos (
    id           BIGINT NOT NULL PRIMARY KEY,
    owner        TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    installation BIGINT NOT NULL,
    seen_at      BIGINT NOT NULL
);

-- The newest reading of each pull request, of its configuration, and what people said about it.
CREATE TABLE pulls (
    repo    BIGINT NOT NULL,
    pr      BIGINT NOT NULL,
    state   TEXT   NOT NULL,
    facts   TEXT   NOT NULL,
    read_at BIGINT NOT NULL,
    PRIMARY KEY (repo, pr)
);
CREATE INDEX pulls_open ON pulls (repo, pr) WHERE state = 'open';

CREATE TABLE configs (
    repo    BIGINT NOT NULL,
    pr      BIGINT NOT NULL,
    facts   TEXT   NOT NULL,
    read_at BIGINT NOT NULL,
    PRIMARY KEY (repo, pr)
);

CREATE TABLE pins (
    repo BIGINT NOT NULL,
    pr   BIGINT NOT NULL,
    pins TEXT   NOT NULL,
    PRIMARY KEY (repo, pr)
);

-- What we have asked for. A ledger's row is the finalizer of its environment.
CREATE TABLE ledgers (
    repo        BIGINT NOT NULL,
    pr          BIGINT NOT NULL,
    uid         TEXT   NOT NULL UNIQUE,
    generation  BIGINT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    standing    TEXT   NOT NULL,
    standing_at BIGINT,
    proven      TEXT,
    said        TEXT   NOT NULL,
    left_for    TEXT,
    PRIMARY KEY (repo, pr)
);
CREATE INDEX ledgers_unreleased ON ledgers (repo, pr) WHERE standing <> 'released';

CREATE TABLE hosts (
    label    TEXT   NOT NULL PRIMARY KEY,
    repo     BIGINT NOT NULL,
    pr       BIGINT NOT NULL,
    position BIGINT NOT NULL,
    service  TEXT
);
CREATE INDEX hosts_of ON hosts (repo, pr);

CREATE TABLE intents (
    seq        SERIAL_KEY,
    token      TEXT   NOT NULL UNIQUE,
    repo       BIGINT NOT NULL,
    pr         BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    role       TEXT   NOT NULL,
    attempt    BIGINT NOT NULL,
    asked_at   BIGINT NOT NULL,
    answer     TEXT
);
CREATE INDEX intents_of ON intents (repo, pr, generation);

-- One row per environment that was ever leased; the fence only rises.
CREATE TABLE leases (
    repo       BIGINT NOT NULL,
    pr         BIGINT NOT NULL,
    fence      BIGINT NOT NULL,
    holder     TEXT,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (repo, pr)
);

-- Append-only: one row when a mutating call begins, another when it has ended. `previous` is unique, so the
-- chain cannot fork.
CREATE TABLE journal (
    seq      SERIAL_KEY,
    begin_id BIGINT,
    repo     BIGINT NOT NULL,
    pr       BIGINT NOT NULL,
    fence    BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    content  TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    previous TEXT   NOT NULL UNIQUE,
    hash     TEXT   NOT NULL
);
CREATE INDEX journal_of ON journal (repo, pr, seq);
CREATE INDEX journal_end ON journal (begin_id) WHERE begin_id IS NOT NULL;

-- Instants to remember by name, such as the last complete resync.
CREATE TABLE marks (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
