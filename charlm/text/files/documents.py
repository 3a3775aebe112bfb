"""Recognition of document formats, with advice on how to extract the text of each."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

SAVE_AS_TEXT = 'open it and save it as plain text (.txt, "UTF-8"), then name that file'
UNPACK = "unpack it, then name the files or the folder that it held"
NO_TEXT = "name a file of text; to learn its bytes: --set data.unit=byte"
# Extracts the text of HTML or XML files in a zip file with Python alone.
UNZIP = (
    'python -c "import html, re, zipfile; z = zipfile.ZipFile({!r}); '
    "n = [n for n in z.namelist() if n.endswith({!r})]; "
    "t = ''.join(z.read(i).decode().replace({!r}, '\\n') for i in n); "
    "open('text.txt', 'w', encoding='utf-8').write(html.unescape(re.sub('<[^>]*>', '', t)))\""
)
STEERS_A_SHELL = re.compile(r"[\"$`!%\\]")


@dataclass(frozen=True)
class Document:
    """A document format. what: its name after "is", as in "a PDF document".

    way: advice on extracting its text; {} stands for the file. is_readable: True if the format is
    text and can be read unchanged. members: for a zip file, the suffix of the members that hold the
    text. paragraph: the end of a paragraph in them.
    """

    what: str
    way: str
    is_readable: bool = False
    members: str = ""
    paragraph: str = ""

    def way_from(self, file: Path) -> str:
        """Return advice on how to extract the text of a file."""
        way = self.way.format(shlex.quote(str(file)))
        if not self.members:
            return way
        name = "FILE" if STEERS_A_SHELL.search(file.as_posix()) else file.as_posix()
        return f"{way}: {UNZIP.format(name, self.members, self.paragraph)}"


_PDF = Document("a PDF document", "take the text out: pdftotext {} text.txt")
_RTF = Document("an RTF document", SAVE_AS_TEXT)
_WORD = Document(
    "a Word document",
    f"{SAVE_AS_TEXT}, or",
    members="word/document.xml",
    paragraph="</w:p>",
)
_WRITER = Document(
    "an OpenDocument text",
    f"{SAVE_AS_TEXT}, or",
    members="content.xml",
    paragraph="</text:p>",
)
_EPUB = Document("an EPUB book", "take the text out", members="html", paragraph="</p>")
_SHEET = Document("a spreadsheet", "save it as CSV, then name that file")
_SLIDES = Document("a presentation", "save its outline as plain text, then name that file")
_OLD_OFFICE = Document("a document of an old Microsoft Office", SAVE_AS_TEXT)
_KINDLE = Document("a Kindle book", "convert it with Calibre: ebook-convert {} text.txt")
_ZIP = Document("a zip archive", UNPACK)
_ARCHIVE = Document("an archive", UNPACK)
_PACKED = Document("a compressed file without the name of one", "rename it to end in .gz")
_PICTURE = Document("a picture", NO_TEXT)
_SOUND = Document("a sound or a film", NO_TEXT)
_PROGRAM = Document("a program", NO_TEXT)
_DATABASE = Document("an SQLite database", "export a column of it as text, then name that file")
_PARQUET = Document("a Parquet table", "name the column that is the text: --set data.field=NAME")
_PAGE = Document(
    "a web page",
    "to have the text alone, open it in a browser and save it as text; "
    "or: pandoc {} -t plain -o text.txt",
    is_readable=True,
)
_FICTION_BOOK = Document(
    "an FB2 book",
    "to have the text alone: pandoc {} -f fb2 -t plain -o text.txt",
    is_readable=True,
)
_NOTEBOOK = Document(
    "a Jupyter notebook",
    "to have the written text alone: jupyter nbconvert --to markdown {}",
    is_readable=True,
)

# Recognised by bytes at an offset.
_STARTS: tuple[tuple[int, bytes, Document], ...] = (
    (0, b"%PDF-", _PDF),
    (0, b"{\\rtf1", _RTF),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLD_OFFICE),
    (60, b"BOOKMOBI", _KINDLE),
    (0, b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (0, b"Rar!\x1a\x07", _ARCHIVE),
    (0, b"BZh91AY&SY", Document("compressed by bzip2", "decompress it: bunzip2 --keep {}")),
    (257, b"ustar", Document("a tar archive", "unpack it: tar -xf {}, then name the folder")),
    (0, b"\x1f\x8b\x08", _PACKED),
    (0, b"\xfd7zXZ\0", Document(_PACKED.what, "rename it to end in .xz")),
    (0, b"\x28\xb5\x2f\xfd", Document(_PACKED.what, "rename it to end in .zst")),
    (0, b"PAR1\x15", _PARQUET),
    (0, b"SQLite format 3\0", _DATABASE),
    (0, b"\x89PNG\r\n\x1a\n", _PICTURE),
    (0, b"\xff\xd8\xff", _PICTURE),
    (0, b"GIF87a", _PICTURE),
    (0, b"GIF89a", _PICTURE),
    (0, b"AT&TFORM", Document("a DjVu document", "take the text out: djvutxt {} text.txt")),
    (0, b"ID3\x03", _SOUND),
    (0, b"ID3\x04", _SOUND),
    (0, b"OggS\0", _SOUND),
    (3, b"\x20ftyp", _SOUND),
    (8, b"WAVEfmt ", _SOUND),
    (0, b"\x7fELF", _PROGRAM),
    (0, b"MZ\x90\0", _PROGRAM),
)
# Zip files, recognised by their first member or by the file's name.
_ZIPPED: tuple[tuple[bytes, str, Document], ...] = (
    (b"mimetypeapplication/epub+zip", ".epub", _EPUB),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", ".odt", _WRITER),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", ".ods", _SHEET),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", ".odp", _SLIDES),
    (b"word/", ".docx", _WORD),
    (b"xl/", ".xlsx", _SHEET),
    (b"ppt/", ".pptx", _SLIDES),
)
_MARKUP = re.compile(rb"\s*(<!doctype html|<html[\s>])", re.IGNORECASE)
_CELLS = re.compile(rb'\s*\{\s*"(cells|metadata|nbformat)"\s*:')
PDF_BEGINS = 1024
"""A PDF document's header is within its first 1024 bytes."""
HEAD = 8192
"""Bytes of a file that `document_of` needs."""


def document_of(file: Path, head: bytes) -> Document | None:
    """Recognise a format by a file's first bytes, or by its name if they are ambiguous."""
    head, suffix = head[:HEAD], file.suffix.lower()
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        fitting = (one for mark, own, one in _ZIPPED if mark in head or suffix == own)
        return next(fitting, _ZIP)
    for at, mark, document in _STARTS:
        if head.startswith(mark, at):
            return document
    if suffix == ".pdf" and b"%PDF-" in head[:PDF_BEGINS]:
        return _PDF
    if b"<FictionBook" in head:
        return _FICTION_BOOK
    if _MARKUP.match(head.removeprefix(b"\xef\xbb\xbf")) or suffix in (".html", ".htm", ".xhtml"):
        return _PAGE
    is_notebook = suffix == ".ipynb" or (_CELLS.match(head) and b'"cell_type"' in head)
    return _NOTEBOOK if is_notebook else None
