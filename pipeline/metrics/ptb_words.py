"""The words that PTB tokenisation knows by name: abbreviations, file endings, merged words.

Found by asking the reference tokeniser about every string of up to four letters, and about some
hundreds of longer abbreviations of English, with a full stop behind them.
"""

ABBREVIATIONS = """
adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig
bros calif capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs
elec ens esq est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr
jul jun kan kans ky lieut lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont mr mrs
ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc ppte ppty pres prof profs pte ptes
pty ptys pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt supts sys
tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo
"""
"""Words whose full stop belongs to them, in any case."""

ABBREVIATIONS_IN_CAPITALS = """
ark az del ill la mass miss ore pa tex wash
"""
"""The same, where the first letter is a capital: words of English otherwise."""

ABBREVIATIONS_BEFORE_NUMBERS = """
art ca fig no nos op pp
"""
"""The same, where a number follows: `No. 5`."""

FILE_ENDINGS = """
gz pl ps py bat bmp cgi cpp dll doc exe gif htm jar jpg mov pdf php png ppt sql tar txt wav
xml zip docx html java jpeg
"""
"""Endings after which `1234.jpg` is one token."""

MERGED_WORDS = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "lemme": "lem me",
    "gimme": "gim me",
    "wanna": "wan na",
    "'tis": "'t is",
    "'twas": "'t was",
}
"""Words that are two tokens."""

SENTENCE_STARTS = """
a about according after an as at but he her here however if in it last many more now once one
other our she since so some such that the their then there these they this we what when while
yet you
"""
"""Words that, with a capital, show that the full stop after a single letter ended a sentence."""
