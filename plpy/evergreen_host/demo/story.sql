-- The statements of the demo, as a user types them.

-- create_extension --
-- Loads Evergreen and what it builds on: pgvector and PL/Python.
CREATE EXTENSION evergreen CASCADE;

-- create_table --
-- An ordinary table; Evergreen adds no column, index or key to it.
CREATE TABLE docs (
    id        int PRIMARY KEY,
    title     text NOT NULL,
    body      text NOT NULL,
    downloads int NOT NULL DEFAULT 0
);

-- load --
-- Loads the documents.
COPY docs (id, title, body) FROM STDIN;

-- create_pipeline --
-- Defines which columns are embedded, and queues existing rows.
SELECT embed_create('docs', 'docs', columns => '{title,body}');

-- drain --
-- Embeds queued rows in one bounded pass.
SELECT embed_drain('docs', max_rows => 500);

-- search --
-- The documents nearest to a question, best first.
SELECT d.title, round(s.score::numeric, 2) AS score
FROM embed_search('docs', %(question)s, k => 3) s
JOIN docs d ON d.id = (s.key ->> 0)::int
ORDER BY s.score DESC;

-- create_cron --
-- pg_cron runs jobs inside the server.
CREATE EXTENSION pg_cron;

-- schedule --
-- From now on a worker inside the server keeps the pipeline fresh.
SELECT embed_schedule();

-- edit --
-- The text of one row in a hundred changes.
UPDATE docs SET body = body || E'\n\nNow with a dark mode.' WHERE id %% 100 = 0;

-- count_downloads --
-- A column that is not embedded changes in every row.
UPDATE docs SET downloads = downloads + 1;

-- save_unchanged --
-- A form is saved as it was opened.
UPDATE docs SET title = title, body = body WHERE id <= 1000;

-- draft --
-- Titles change ...
UPDATE docs SET title = 'DRAFT ' || title WHERE id %% 100 = 50;

-- undraft --
-- ... and change back before the next drain.
UPDATE docs SET title = substr(title, 7) WHERE id %% 100 = 50;

-- delete --
-- Some rows go.
DELETE FROM docs WHERE id %% 300 = 299;

-- undo --
-- The edits are undone, long after their text was embedded.
UPDATE docs SET body = replace(body, E'\n\nNow with a dark mode.', '') WHERE id %% 100 = 0;

-- explain --
-- Everything about one row.
SELECT embed_explain('docs', '[100]');

-- add --
-- A new document; nothing is called afterwards.
INSERT INTO docs VALUES (%(id)s, 'evergreen: keeps embeddings fresh',
    'A garden of vectors that looks after itself: when a row in the database changes, its embedding is renewed.');

-- rename --
-- Its title changes.
UPDATE docs SET title = 'evergreen: looks after vectors' WHERE id = %(id)s;

-- count --
-- Rows of the source.
SELECT count(*) FROM docs;

-- open_work --
-- Rows that are queued or claimed.
SELECT pending + in_flight FROM embed_status WHERE pipeline = 'docs';

-- embedded_since --
-- Documents embedded since a point in time; each is one text.
SELECT count(DISTINCT id) FROM docs_embedding WHERE embedded_at > %(since)s;

-- now --
-- The server's clock.
SELECT clock_timestamp();

-- is_searchable --
-- Whether a row has fresh vectors.
SELECT EXISTS (SELECT FROM docs_embedding WHERE id = %(id)s AND NOT is_stale);
