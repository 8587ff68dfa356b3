"""How many tokens a text has, before anybody who knows was asked."""

_ASCII_CHARACTERS_A_TOKEN = 4


def estimate(text: str) -> int:
    """Estimate a text's tokens: four ASCII characters each, and one for every other character.

    Four characters of English a token is OpenAI's rule of thumb (https://platform.openai.com/tokenizer); texts in other
    scripts come to about one token a character with its cl100k_base encoding.
    """
    plain = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return -(-plain // _ASCII_CHARACTERS_A_TOKEN) + len(text) - plain


def cut(text: str, tokens: int) -> str:
    """Return the longest beginning of a text that is estimated at no more than so many tokens."""
    if estimate(text) <= tokens:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]
