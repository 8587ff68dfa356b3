CREATE FUNCTION @extschema@.embed_chunk_none() RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $sql$ SELECT '{"chunker": "none"}'::pg_catalog.jsonb $sql$;
COMMENT ON FUNCTION @extschema@.embed_chunk_none() IS 'chunker: one chunk per row';

CREATE FUNCTION @extschema@.embed_chunk_text(size int = 800, overlap int = 0) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_text(size, overlap)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_text(int, int) IS
    'chunker: splits plain text between paragraphs, then lines, sentences and words. The content determines the boundaries, '
    'so an edit moves only the boundaries near it. size and overlap are maxima in characters. overlap: each chunk starts with '
    'the end of the previous one, so an edit there re-embeds both';

CREATE FUNCTION @extschema@.embed_chunk_markdown(size int = 800, context boolean = false) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_markdown(size, context)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_markdown(int, boolean) IS
    'chunker: splits Markdown at every heading and, in long sections, between blocks (paragraphs, lists, tables, code). A '
    'block that fits stays whole, and chunks are slices of the source. size: maximum in characters. context: each chunk '
    'starts with its heading path, so renaming a heading re-embeds everything below it';

CREATE FUNCTION @extschema@.embed_chunk_html(size int = 800, context boolean = false) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_html(size, context)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_html(int, boolean) IS
    'chunker: extracts the visible text of HTML (not script, style, nav, title ...), decodes entities, and splits at every '
    'heading and, in long sections, between blocks. A block that fits stays whole. size: maximum in characters. context: each '
    'chunk starts with its heading path, so renaming a heading re-embeds everything below it';

CREATE FUNCTION @extschema@.embed_chunk_recursive(
    size int = 800, overlap int = 0, separators text[] = ARRAY[E'\n\n', E'\n', ' ', '']) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_recursive(size, overlap, separators)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_recursive(int, int, text[]) IS
    'chunker: same chunks as LangChain''s RecursiveCharacterTextSplitter, for texts already split that way. Splits at the '
    'first separator found, splits pieces that are still too long at the next ('''' splits anywhere), and merges pieces until '
    'a chunk is full; an edit moves all later boundaries. size and overlap are maxima in characters; a piece that no '
    'separator can split may be longer';

CREATE FUNCTION @extschema@.embed_chunk_separator(size int = 800, overlap int = 0, separator text = E'\n\n') RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_separator(size, overlap, separator)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_separator(int, int, text) IS
    'chunker: same chunks as LangChain''s CharacterTextSplitter, for texts already split that way. Splits at one separator '
    'and merges pieces until a chunk is full; an edit moves all later boundaries. size and overlap are maxima in characters; '
    'a piece without the separator may be longer';
