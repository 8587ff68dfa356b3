-- utf8(): text goes between us and this server as UTF-8, whoever asks
SELECT pg_catalog.current_setting('client_encoding') = 'UTF8' AND pg_catalog.current_setting('server_encoding') = 'UTF8'

-- copy_chunks(): new texts with their vectors, from a file in COPY's binary format
-- µs a row in the server, three indexes included: 12 at 256 dimensions and 37 at 1,536; insert_chunks takes 31 and 172.
-- Straight into the table: a landing table between would write and read each vector once more. Nothing is temporary, or
-- the transaction could not be prepared.
COPY {table} (document, chunk_no, chunk_hash, fingerprint, src_hash, embedded_at, model, {key_names}, key, chunk, embedding)
FROM {path} (FORMAT binary)

-- insert_chunks(int8[], jsonb[], int4[], text[], bytea[], {vector}[], bytea[], bytea[], text): the same, with any key anywhere
-- The vectors go through text, which costs more than all the rest of a row.
INSERT INTO {table} (document, {key_names}, key, chunk_no, chunk, chunk_hash, embedding, fingerprint, src_hash, model, embedded_at)
SELECT u.document, {key_values}, u.key, u.chunk_no, u.chunk, u.chunk_hash, u.embedding, u.fingerprint, u.src_hash, $9,
       pg_catalog.clock_timestamp()
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
     u (document, key, chunk_no, chunk, chunk_hash, embedding, fingerprint, src_hash)
