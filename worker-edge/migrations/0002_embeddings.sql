-- Whether /v1/embeddings supports a version. src/embeddable.rs of the core decides that when a
-- version is published; this migration decides it for the versions before it.

ALTER TABLE versions ADD COLUMN embeddings INTEGER NOT NULL DEFAULT 0;

UPDATE versions SET embeddings = 1
WHERE type = 'embedding'
  AND 1 = (SELECT count(*) FROM json_each(manifest, '$.artifacts')
           WHERE json_extract(value, '$.filename') LIKE '%.onnx'
             AND json_extract(value, '$.size') <= 67108864)
  AND EXISTS (SELECT 1 FROM json_each(manifest, '$.artifacts')
              WHERE json_extract(value, '$.filename') = 'tokenizer.json'
                AND json_extract(value, '$.size') <= 4194304);
