-- Models and their versions. src/http/registry.rs of the core decides what may be written.
-- Times are milliseconds since the Unix epoch.

CREATE TABLE models (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,              -- the key id of the publisher
  replaced TEXT NOT NULL,           -- ids of the owner's former keys: a JSON array
  signed INTEGER NOT NULL,          -- the time of the last signature
  newest TEXT,                      -- the newest version that is not yanked
  revision INTEGER NOT NULL,        -- the number of publications
  written TEXT NOT NULL             -- SHA-256 of the last published manifest
) STRICT;

CREATE TABLE versions (
  model TEXT NOT NULL REFERENCES models (id),
  version TEXT NOT NULL,
  timestamp INTEGER NOT NULL,       -- the time of the signature
  key_id TEXT NOT NULL,             -- the key of the signature
  yanked INTEGER NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  quantization TEXT,
  license TEXT,
  size INTEGER NOT NULL,
  manifest TEXT NOT NULL,           -- the signed text, unchanged
  PRIMARY KEY (model, version)
) STRICT;

-- The root CIDs of the artifacts, for requests by CID.
CREATE TABLE artifacts (
  cid TEXT NOT NULL,
  model TEXT NOT NULL REFERENCES models (id),
  version TEXT NOT NULL,
  PRIMARY KEY (cid, model, version)
) STRICT, WITHOUT ROWID;
