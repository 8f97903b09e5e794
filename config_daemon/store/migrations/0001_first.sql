-- Format 1 of the store. Applied in one transaction; numbers go forward only.

CREATE TABLE schema_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    model_hash TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE TABLE config_epoch (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    config_epoch TEXT NOT NULL,
    created_at TEXT NOT NULL,
    last_rebuild TEXT
);

CREATE TABLE service_configs (
    service TEXT PRIMARY KEY,
    config_json TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    config_epoch TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    row_seal TEXT NOT NULL DEFAULT '',
    row_seal_key_id TEXT NOT NULL DEFAULT ''
);
CREATE INDEX idx_service_configs_epoch ON service_configs(config_epoch);

CREATE TABLE deleted_services (
    service TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    config_epoch TEXT NOT NULL,
    deleted_at TEXT NOT NULL,
    deleted_by TEXT,
    row_seal TEXT NOT NULL DEFAULT '',
    row_seal_key_id TEXT NOT NULL DEFAULT ''
);

CREATE TABLE config_items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    value_json TEXT NOT NULL,
    type TEXT NOT NULL,
    complexity TEXT NOT NULL,
    description TEXT NOT NULL,
    help_text TEXT,
    is_secret INTEGER NOT NULL DEFAULT 0,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    UNIQUE(service, key)
);
CREATE INDEX idx_config_items_service ON config_items(service);
CREATE INDEX idx_config_items_complexity ON config_items(complexity);
CREATE INDEX idx_config_items_key ON config_items(key);
CREATE INDEX idx_config_items_search ON config_items(service, key, description);

CREATE TABLE config_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    old_value_json TEXT,
    new_value_json TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    changed_by TEXT,
    change_reason TEXT,
    version INTEGER NOT NULL,
    change_id TEXT NOT NULL,
    chain TEXT NOT NULL
);
CREATE INDEX idx_config_history_service ON config_history(service);
CREATE INDEX idx_config_history_time ON config_history(changed_at);

CREATE TABLE encrypted_secrets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    encrypted_value TEXT NOT NULL,
    key_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE(service, key)
);
CREATE INDEX idx_encrypted_secrets_key_id ON encrypted_secrets(key_id);

CREATE TABLE access_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT,
    action TEXT NOT NULL,
    service TEXT,
    key TEXT,
    success INTEGER NOT NULL,
    reason TEXT,
    timestamp TEXT NOT NULL,
    chain TEXT NOT NULL
);
CREATE INDEX idx_access_log_time ON access_log(timestamp);
CREATE INDEX idx_access_log_user ON access_log(user_id);
-- A row without a service's name begins a new chain: the last one is looked for at each start.
CREATE INDEX idx_access_log_begun ON access_log(id) WHERE service = '';

-- A place in the history of changes is (seq, token): a restored or forked database lacks the row.
CREATE TABLE change_feed (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    token TEXT NOT NULL
);

CREATE TRIGGER feed_config_insert AFTER INSERT ON service_configs BEGIN
    INSERT INTO change_feed(service, token) VALUES (NEW.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_config_update AFTER UPDATE ON service_configs BEGIN
    INSERT INTO change_feed(service, token)
        SELECT OLD.service, hex(randomblob(8)) WHERE OLD.service <> NEW.service;
    INSERT INTO change_feed(service, token) VALUES (NEW.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_config_delete AFTER DELETE ON service_configs BEGIN
    INSERT INTO change_feed(service, token) VALUES (OLD.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_deleted_insert AFTER INSERT ON deleted_services BEGIN
    INSERT INTO change_feed(service, token) VALUES (NEW.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_deleted_update AFTER UPDATE ON deleted_services BEGIN
    INSERT INTO change_feed(service, token)
        SELECT OLD.service, hex(randomblob(8)) WHERE OLD.service <> NEW.service;
    INSERT INTO change_feed(service, token) VALUES (NEW.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_deleted_delete AFTER DELETE ON deleted_services BEGIN
    INSERT INTO change_feed(service, token) VALUES (OLD.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_secret_insert AFTER INSERT ON encrypted_secrets BEGIN
    INSERT INTO change_feed(service, token) VALUES (NEW.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_secret_update AFTER UPDATE ON encrypted_secrets BEGIN
    INSERT INTO change_feed(service, token)
        SELECT OLD.service, hex(randomblob(8)) WHERE OLD.service <> NEW.service;
    INSERT INTO change_feed(service, token) VALUES (NEW.service, hex(randomblob(8)));
END;
CREATE TRIGGER feed_secret_delete AFTER DELETE ON encrypted_secrets BEGIN
    INSERT INTO change_feed(service, token) VALUES (OLD.service, hex(randomblob(8)));
END;

-- The first place exists before the first change, so that an empty database has one too.
INSERT INTO change_feed(service, token) VALUES ('', hex(randomblob(8)));
