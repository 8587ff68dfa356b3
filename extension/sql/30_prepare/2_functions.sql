CREATE FUNCTION @extschema@.embed_chunk_none() RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $sql$ SELECT '{"chunker": "none"}'::pg_catalog.jsonb $sql$;
COMMENT ON FUNCTION @extschema@.embed_chunk_none() IS 'chunker: one chunk a row';

CREATE FUNCTION @extschema@.embed_chunk_text(size int = 800, overlap int = 0) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_text(size, overlap)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_text(int, int) IS
    'chunker: plain text cut between paragraphs, then lines, sentences, words; where, is chosen by their content, so that an edit moves '
    'no boundary beyond its neighbourhood. Sizes are maxima, in characters. overlap: each chunk starts with the end of the one '
    'before, so that an edit there re-embeds both';

CREATE FUNCTION @extschema@.embed_chunk_markdown(size int = 800, context boolean = false) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_markdown(size, context)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_markdown(int, boolean) IS
    'chunker: markdown cut at every heading and, in long sections, between blocks (paragraphs, lists, tables, code), which are kept '
    'whole where they fit; chunks are slices of the source. size: the maximum, in characters. context: each chunk starts '
    'with the path of its headings, which costs: renaming a heading re-embeds everything below it';

CREATE FUNCTION @extschema@.embed_chunk_html(size int = 800, context boolean = false) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_html(size, context)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_html(int, boolean) IS
    'chunker: the text that is seen of HTML (not that of script, style, nav, title ...), entities decoded, cut at every heading and, in '
    'long sections, between blocks, which are kept whole where they fit. size: the maximum, in characters. context: each chunk starts '
    'with the path of its headings, which costs: renaming a heading re-embeds everything below it';

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
    'chunker: as LangChain''s RecursiveCharacterTextSplitter, for texts that were cut so before: at the first of the separators that '
    'there is, what is then too long at the next ('''' cuts anywhere), and packed until a chunk is full; an edit moves the boundaries '
    'after it. size and overlap are maxima, in characters; what no separator can cut is longer';

CREATE FUNCTION @extschema@.embed_chunk_separator(size int = 800, overlap int = 0, separator text = E'\n\n') RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.prepare import chunkers
return chunkers.embed_chunk_separator(size, overlap, separator)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_separator(int, int, text) IS
    'chunker: as LangChain''s CharacterTextSplitter, for texts that were cut so before: at one separator, and packed until a chunk is '
    'full; an edit moves the boundaries after it. size and overlap are maxima, in characters; what the separator does not cut is longer';
