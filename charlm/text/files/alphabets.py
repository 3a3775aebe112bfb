"""Frequent letters beyond ASCII of each language, the most frequent first, and its codecs.

`guessing.py` ranks codecs by the probability that these letters give to the decoded text. The order
of the letters is approximate, which is enough for ranking.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Alphabet:
    """The frequent letters of a language.

    codecs: the likeliest first. is_latin: True if the language also uses the letters of ASCII.
    is_large: True if it has thousands of letters; `letters` are then the most frequent.
    """

    codecs: tuple[str, ...]
    letters: str
    is_latin: bool = False
    is_large: bool = False


def _latin(codecs: str, letters: str) -> Alphabet:
    return Alphabet(tuple(codecs.split()), letters, is_latin=True)


WESTERN, CENTRAL = "cp1252 cp850 mac_roman", "cp1250 iso8859-2 cp852"

ALPHABETS = (
    _latin(WESTERN, "éèàêçîôâûùïëœ"),  # French
    _latin(WESTERN, "üäöß"),  # German
    _latin(WESTERN, "óíáéñúü¿¡"),  # Spanish
    _latin(WESTERN, "ãáçéóíõêâúàô"),  # Portuguese
    _latin(WESTERN, "èàùòéì"),  # Italian
    _latin(WESTERN, "åäöøæé"),  # Danish, Norwegian, Swedish
    _latin(WESTERN, "áðíéþöæóúý"),  # Icelandic
    _latin(CENTRAL, "łąężóśćńź"),  # Polish
    _latin(CENTRAL, "áíéěýščžřůúťďňóôäľĺŕ"),  # Czech, Slovak
    _latin(CENTRAL, "éáöóőíüúű"),  # Hungarian
    _latin(CENTRAL, "ăîâţşșț"),  # Romanian
    _latin(CENTRAL, "čšžćđ"),  # Croatian, Slovene
    _latin("cp1254 cp857", "ışğüçöâ"),  # Turkish
    _latin("cp1257 iso8859-13", "āīēšņūļžķčģėųįąęõäöü"),  # Latvian, Lithuanian, Estonian
    Alphabet(("cp1251", "koi8-r", "cp866", "mac_cyrillic"), "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфё"),
    Alphabet(("cp1251", "koi8-u", "iso8859-5"), "оанвитересіклуідмпбязьгчхцйїєжюшщфґўњљћџђјъ"),
    Alphabet(("cp1253", "iso8859-7"), "αοιετσνηυρπκμλςίόάγέήδωχύθώφβξζψϊϋΐΰ"),
    Alphabet(("cp1255",), "יוהלאתרשמבנכדקחםפעןסטגזצךףץ"),
    Alphabet(("cp1256",), "اليمنروتبةعدسفهكقحجشطصخضذزثغئءىظآؤأإپچژگک،؟"),
    Alphabet(("cp874",), "านรกอเง่ามยลวดทสต้ะปบคหัิีแจชพุู็ใไโผศธขณฟถซญภษฮำื์ๆฉ"),
    Alphabet(
        ("cp949",),
        "이다는지고화영하가에도아한의기만나어은보을게리요로서그인니라재들있시스데무미정사면대해마음말네를수"
        "없진감연좋전자으주점내었거우적상장작여너생드오안봤과까것야했부간제소일동았같더모성최구중짜와않던각운"
        "잘히러런분신본때비되랑평배볼습할개치실느유건공함려남용래토저반세조루명듯난국터름금력",
        is_large=True,
    ),
    Alphabet(
        ("gb18030",),
        "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
        "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
        "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政"
        "美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员"
        "解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件"
        "，。“”、：；！？《》（）…—",
        is_large=True,
    ),
    Alphabet(
        ("big5",),
        "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡"
        "用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實"
        "日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政"
        "美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員"
        "，。「」、：；！？『』《》（）…—",
        is_large=True,
    ),
    Alphabet(
        ("cp932", "euc_jp"),
        "のにいるとはをたてがしでなもかられこうっまさりすきあそだんよけつくおえみせわめどじばやちげずべごびろ"
        "ゃょゅぶむぎねひほざ、。「」ンーイスルトラアリクシドジフマレタロカパコテサメキニプチオデナグュィッェァ"
        "人一日大年出本中子見国言上分生手自行者二間事思時気十女三前入小後長下学月何来話山高今書五名金男外四先"
        "川東聞語九食八水天木六万白七円電父北車母半百土西読千校右南左友火毎雨休午",
        is_large=True,
    ),
)  # fmt: skip
