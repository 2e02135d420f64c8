-- The newest delivery about each pull request, for the journal: deliveries themselves are deleted after a week.
CREATE TABLE touches (
    repo BIGINT NOT NULL,
    pr   BIGINT NOT NULL,
    seq  BIGINT NOT NULL,
    guid TEXT   NOT NULL,
    PRIMARY KEY (repo, pr)
);
