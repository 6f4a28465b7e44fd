"""The words that PTB tokenisation knows by name: abbreviations, file endings, merged words.

Found by asking the reference tokeniser about every string of up to four letters, and about some
62,000 longer words of English, with a full stop behind them.
"""

ABBREVIATIONS = """
adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs
elec ens ft gen gov govs hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl
pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts treas vs wm
"""
"""Words whose full stop belongs to them, in any case."""

ABBREVIATIONS_NOT_IN_CAPITALS = """
mfg mtg
"""
"""The same, unless letters after the first are capitals."""

ABBREVIATIONS_AT_ENDS = """
al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec
ed.d esq est etc ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn
mo mon mont neb nev nov oct okla penn ph.d plc rd rt sep sept seq sq sr sys tel tenn thu thurs
tue tues univ va vt wed wis wisc wyo
"""
"""The same, of words that may end a sentence: what follows without a space is a token of its
own (`Inc.s` and `etc.-b` are two tokens, `Mr.-b` is one)."""

AT_ENDS_NOT_IN_CAPITALS = """
ppte ppty pte ptes pty ptys
"""
"""The same, unless letters after the first are capitals."""

CAPITALISED_AT_ENDS = """
ark az del ill la mass miss ore pa tex wash
"""
"""The same, where the first letter is a capital: words of English otherwise."""

ABBREVIATIONS_BEFORE_NUMBERS = """
art ca fig figs no nos op pp prop
"""
"""The same, where a number follows: `No. 5`."""

FILE_ENDINGS = """
c h x gz pl ps py bat bmp cgi class cpp dll doc docx exe gif htm html jar java jpeg jpg mov pdf
mp3 php png ppt sql tar txt wav xml zip
"""
"""Endings after which `1234.jpg` is one token."""

MERGED_WORDS = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "lemme": "lem me",
    "gimme": "gim me",
    "wanna": "wan na",
}
"""Words that are two tokens."""

SENTENCE_STARTS = """
a about according additionally after an as at but earlier he her here however if in it last many
more mr. ms. now once one other our she since so some such that the their then there these they
this we what when while yet you
"""
"""Words that, with a capital, show that the full stop after a single letter ended a sentence."""

NOT_PLAIN = frozenset(
    {*ABBREVIATIONS.split(), *ABBREVIATIONS_NOT_IN_CAPITALS.split(), *ABBREVIATIONS_AT_ENDS.split()}
    | {*AT_ENDS_NOT_IN_CAPITALS.split(), *CAPITALISED_AT_ENDS.split()}
    | {*ABBREVIATIONS_BEFORE_NUMBERS.split(), *MERGED_WORDS}
    | set("abcdefghijklmnopqrstuvwxyz") - {"a", "i"}
)
"""Words with rules of their own; every other word of English letters is a token."""
