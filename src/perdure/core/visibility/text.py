"""How Text attributes are cut into words. Stores that index words must use this same function."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")


def text_tokens(text: str) -> tuple[str, ...]:
    """Cut a text into its distinct words: letters and digits, case and accents removed, in order of
    appearance.

    Args:
        text: the value of a Text attribute, or the text to look for.

    Returns:
        The words; none if the text has no letter and no digit.
    """
    # Folding case can compose and decomposing can bring capitals back, so the one is done between two of the
    # other.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return tuple(dict.fromkeys(_WORD.findall(bare)))
