-- Format 2 of the store: the workers that are expected, by name and key.

CREATE TABLE workers (
    worker TEXT PRIMARY KEY,
    verify_key TEXT NOT NULL,
    box_key TEXT NOT NULL,
    services TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    config_epoch TEXT NOT NULL,
    added_at TEXT NOT NULL,
    added_by TEXT,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    row_seal TEXT NOT NULL DEFAULT '',
    row_seal_key_id TEXT NOT NULL DEFAULT ''
);

-- No service changes with a worker: such a row of the feed names none.
CREATE TRIGGER feed_worker_insert AFTER INSERT ON workers BEGIN
    INSERT INTO change_feed(service, token) VALUES ('', hex(randomblob(8)));
END;
CREATE TRIGGER feed_worker_update AFTER UPDATE ON workers BEGIN
    INSERT INTO change_feed(service, token) VALUES ('', hex(randomblob(8)));
END;
CREATE TRIGGER feed_worker_delete AFTER DELETE ON workers BEGIN
    INSERT INTO change_feed(service, token) VALUES ('', hex(randomblob(8)));
END;
