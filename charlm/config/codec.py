"""Python's codecs for the encoding of a text."""

import codecs

from charlm.common.wording import suggestion

KNOWN = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp866"),
    *("latin-1", "iso8859-2", "koi8-r", "cp949", "euc-kr", "gb18030", "big5", "shift_jis"),
    *("euc_jp", "utf-16", "utf-16-le", "utf-16-be", "utf-32"),
)
"""The most common encodings of texts, listed in the error for an unknown one."""
NOT_FOR_FILES = {
    *("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7"),
    *("unicode-escape", "raw-unicode-escape", "charmap", "mbcs", "oem"),
}
"""Codecs of domain names and of Python's own, which do not decode text or depend on the machine."""


def codec_named(name: str) -> str:
    """Return Python's canonical name of a codec; "" for UTF-8.

    Raises: ValueError if there is none of that name, or it is not for the text of files.
    """
    try:
        codec = codecs.lookup(name).name
        b"a".decode(codec, "replace")
    except (LookupError, ValueError):
        codec = ""
    if not codec or codec in NOT_FOR_FILES:
        hint = suggestion(name, KNOWN) or f"; known are {', '.join(KNOWN)} and more"
        raise ValueError(f"{name!r} is no encoding of texts{hint}")
    return "" if codec in ("utf-8", "utf-8-sig") else codec
