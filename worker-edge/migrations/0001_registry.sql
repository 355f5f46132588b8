-- Models and their versions. What may be written is decided in src/registry.rs; times are milliseconds since the Unix epoch.

CREATE TABLE models (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,              -- the key that it belongs to
  replaced TEXT NOT NULL,           -- keys that were replaced by the owner's: a JSON array
  signed INTEGER NOT NULL,          -- when the manifest that was signed last was signed
  newest TEXT,                      -- the newest version that is not yanked, if one is left
  revision INTEGER NOT NULL,        -- counts publications
  written TEXT NOT NULL             -- SHA-256 of the manifest that was published last
) STRICT;

CREATE TABLE versions (
  model TEXT NOT NULL REFERENCES models (id),
  version TEXT NOT NULL,
  timestamp INTEGER NOT NULL,       -- when its manifest was signed
  key_id TEXT NOT NULL,             -- by whom
  yanked INTEGER NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  quantization TEXT,
  license TEXT,
  size INTEGER NOT NULL,
  manifest TEXT NOT NULL,           -- as it was sent: the signature is over it
  PRIMARY KEY (model, version)
) STRICT;

-- The roots of the files, for who asks for them by CID.
CREATE TABLE artifacts (
  cid TEXT NOT NULL,
  model TEXT NOT NULL REFERENCES models (id),
  version TEXT NOT NULL,
  PRIMARY KEY (cid, model, version)
) STRICT, WITHOUT ROWID;
