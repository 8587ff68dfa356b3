-- Named as support function by everything that is generated, which so depends on the extension and goes with it. ALTER
-- FUNCTION ... DEPENDS ON EXTENSION says the same and is lost by each CREATE OR REPLACE; to say it again locks the extension
-- to the end of the transaction, so that an ALTER TABLE left open kept every other pipeline from following its own source.
-- The planner may ask it for advice; the built-in function has none to give on functions like ours.
CREATE FUNCTION embed.belongs(internal) RETURNS internal
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE
AS 'textlike_support';
COMMENT ON FUNCTION embed.belongs(internal) IS 'internal: ties generated functions to the extension';
