"""What each class of the tokeniser's corpus is made of: one function a class, one construct a call.

Every function takes a random source and gives a short text that holds its class's feature. The
word lists are ordinary English, written for this; nothing is taken from any data set.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable
from random import Random

NOUNS = """dog cat man woman child bench kitchen train horse umbrella pizza surfboard giraffe zebra
bus street table laptop phone skateboard frisbee kite snow beach mountain river bridge tower clock
sign church window vase flower sheep cow field grass fence truck motorcycle bicycle helmet shirt
jeans dress hat glasses mirror sink toilet oven fridge cake sandwich banana apple broccoli carrot
plate bowl cup bottle wine beer coffee book shelf bed pillow sofa lamp television remote keyboard
mouse desk chair player bat ball glove racket court wave boat dock ship plane airport runway
suitcase bag backpack crowd audience stage band guitar piano microphone camera photograph""".split()
VERBS = """sits stands runs jumps holds eats rides walks flies looks plays sleeps lies watches
carries throws catches swings waits smiles drives cooks paints reads talks""".split()
ADJECTIVES = """red blue small large old young brown white black wooden empty busy sunny wet dirty
clean tall short round bright dark open broken yellow green silver antique modern rustic vintage
half-eaten well-lit stained-glass T-shirt-clad multi-colored""".split()
NAMES = """John Mary Smith Paris London James Chris Jones Thomas Charles Maria Ross Texas Boston
Tokyo Obama Lucas Moses Jesus Texas Brooks Williams Adams Santa Venus iPhone McDonald O'Brien
D'Angelo NASA BMW""".split()
PLACES = ["in", "on", "near", "under", "behind", "with", "beside", "over", "at", "by", "of", "for"]


def pick(rng: Random, *choices: str | Callable[[Random], str]) -> str:
    choice = rng.choice(choices)
    return choice if isinstance(choice, str) else choice(rng)


def words(rng: Random, fewest: int = 1, most: int = 3) -> str:
    return " ".join(
        rng.choice(rng.choice((NOUNS, NOUNS, VERBS, ADJECTIVES, NAMES, PLACES)))
        for _ in range(rng.randint(fewest, most))
    )


def noun(rng: Random) -> str:
    return rng.choice(NOUNS)


def cased(rng: Random, text: str) -> str:
    """As it is, most often; or in capitals, title case, or with one letter changed."""
    kind = rng.random()
    if kind < 0.75:
        return text
    return text.upper() if kind < 0.87 else text.title() if kind < 0.97 else text.swapcase()


def digits(rng: Random, fewest: int = 1, most: int = 4) -> str:
    return "".join(rng.choice("0123456789") for _ in range(rng.randint(fewest, most)))


def apostrophe(rng: Random) -> str:
    return rng.choice("''''''''’’’’‘`´ʼ′＇\u0092")


def contractions(rng: Random) -> str:
    mark = apostrophe(rng)
    kind = rng.random()
    if kind < 0.35:
        stem = pick(rng, *"""is are was were do does did has have had ca wo would could should might
        must need ai sha dare may ought am""".split())
        text = f"{stem}n{mark}t"
        if rng.random() < 0.15:
            text += mark + pick(rng, "ve", "d", "s", "re")
    elif kind < 0.75:
        stem = pick(rng, *"""I you he she it we they that this there here who what where when how why
        let one someone everybody nobody dog man John who'd what's should would could might must y'all
        those these ya""".split())
        text = stem + mark + pick(rng, "m", "s", "re", "ve", "ll", "d", "ll've", "d've")
        text = text.replace("llʼve", "ll've")
    elif kind < 0.9:
        text = pick(rng, *"""cannot gonna gotta wanna lemme gimme dunno kinda sorta whaddya whatcha
        outta oughta hafta shoulda coulda woulda musta d'ye more'n 'tis 'twas 'twere 'twould wannabe
        Cannot betcha gotcha c'mon""".split()).replace("'", mark)
    else:
        text = pick(rng, *"""'em 'til 'till 'cause 'n' 'bout 'round ol' rock'n'roll o'clock ma'am
        y'all goin' nothin' c'est l'eau d'or qu'il ne'er o'er e'er 'neath 'nother cap'n fo'c'sle
        bo'sun int'l nat'l gov't dep't s'mores jack-o'-lantern will-o'-the-wisp o'lantern""".split())
        text = text.replace("'", mark)
    return cased(rng, text)


def possessives(rng: Random) -> str:
    owner = pick(rng, noun, rng.choice(NAMES), noun, digits, "1950", "TV", "U.S.", "St", "café",
                 "women", "children", "mother-in-law", "and/or", "'90", "R2D2", "AT&T", "Dr", "Inc.")  # fmt: skip
    ending = pick(rng, "'s", "'s", "'s", "s'", "'", "’s", "’s", "s’", "’", "'S", "´s", "`s", "s's")
    text = owner + ending
    if rng.random() < 0.5:
        text += " " + noun(rng)
    return cased(rng, text)


def abbreviations(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        text = pick(rng, *"""Mr. Mrs. Ms. Dr. Prof. St. Ave. Blvd. Rd. Jr. Sr. Inc. Ltd. Co. Corp.
        etc. vs. est. dept. no. No. Fig. vol. pp. p. ed. eds. approx. apt. Sgt. Capt. Lt. Col. Gen.
        Rev. Hon. Gov. Sen. Rep. Pres. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sept. Sep. Oct. Nov. Dec.
        Mon. Tue. Tues. Wed. Thu. Thurs. Fri. Sat. Sun. ft. in. lb. lbs. oz. kg. cm. mm. hr. hrs.
        min. sec. mi. sq. max. min. misc. incl. excl. ext. tel. fax. attn. cf. al. ca. c. circa.
        Calif. Mass. Conn. Tex. Ill. Mich. Minn. Wis. Penn. Fla. Ariz. Ore. Wash. Bros. Mt. Ft.
        Hwy. Pkwy. Sq. Univ. Assn. Intl. Mfg. Dist. Natl. Ph.D. M.D. B.A. Esq. Messrs. Mme. Mlle.
        Nos. op. art. sec. ch. chap. fig. illus. photo. pic. img. temp. tbsp. tsp. qt. pt. gal. a.
        doz. pkg. yr. yrs. mo. wk. Ste. Bldg. Fl. Ct. Pl. Ln. Sir. Miss. bef. aft. orig. rec. ver.
        Ala. Del. La. Ga. Pa. Va. Vt. Md. Me. N.Y. N.J. R.I. N.C. Pty. GmbH. S.A. plc. adj. adv.
        alt. aka. Alex. Wm. Chas. Geo. Jos. Ste. elev. avg. lat. long. exp. mod. reg. spec.
        """.split())
    elif kind < 0.8:
        text = pick(rng, *"""U.S. U.K. U.S.A. U.N. E.U. D.C. a.m. p.m. A.M. P.M. e.g. i.e. J.R.R.
        J. C.S. F.B.I. N.B.A. P.S. P.O. B.C. A.D. B.C.E. C.E. L.A. a.k.a. R.I.P. T.V. D.J. M.C.
        Ph.D.s U.S.-based U.S.'s U.K.-style c/o. J.-P. e.g., i.e., U.S., St.-Germain U.S.S.R
        U.S.A ph.d. q.v. w.c. k.d. m.p.h. r.p.m. s.f. n.d. w.r.t. f.y.i. U.S.S. H.M.S. B.Sc. M.Sc.
        D.Phil. LL.B. Ed.D. B.Tech. Jr.'s O.K. o.k. V.I.P. V.I.P.s 4.a.m 7.p.m. """.split())
    else:
        text = ".".join(rng.choice("ABCDEFGHIJKLMNOPRSTUVWXYZabcdefgmnpxyz") for _ in range(rng.randint(1, 4)))
        text += "."
    if rng.random() < 0.55:
        text += pick(rng, " Smith", " The dog", " A", " It", " 5", " 12", ",", " ,", " street", " and",
                     " He", " |", " -", " !", "?", ":", ";", ")", '"', "'", "'s", "-", "/", "..", " '")  # fmt: skip
    return cased(rng, text)


def numbers(rng: Random) -> str:
    whole = digits(rng, 1, 5)
    kinds: list[Callable[[], str]] = [
        lambda: f"{whole}{pick(rng, '.', ',', ':', '-', '/', 'x', ' x ', '×', '*', '+', '=', '_', '~', '±', '^')}{digits(rng)}",
        lambda: f"{rng.randint(1, 999)},{digits(rng, 3, 3)}" + pick(rng, "", f",{digits(rng, 3, 3)}", ".5", "'s"),
        lambda: whole + pick(rng, "%", " %", "‰", "st", "nd", "rd", "th", "s", "'s", "x", "K", "k", "mm", "cm", " cm",
                             "ft", "°", "°C", "° F", "º", "lbs", "kg", "\"", "'", "''", "′", "″", "MP", "px", "\u00b2",
                             "m²", "+", "-", ".", "..", "th.", "%.", "!", "mm.", "m3", "D", "-inch", "-year-old",
                             "yr-old", "-in-1", "-piece", "/day", "mph", "km/h", "am", "GB", "mAh", "V", "W", "e5"),
        lambda: pick(rng, "-", "+", ".", "-.", "#", "No.", "No. ", "no. ", "Nr.", "№", "~", "±", "<", ">", "≤", "x",
                     "$", "v", "R", "A", "-$", "(", "~ ", "≈", "=", "*", "@", "'", "/", "\\", "*", "^", "−", "–") + whole,
        lambda: f"({digits(rng, 3, 3)}){pick(rng, ' ', '', '-')}{digits(rng, 3, 3)}{pick(rng, '-', ' ', '.')}{digits(rng, 4, 4)}",
        lambda: pick(rng, "-", ".", " ", "/").join(digits(rng, 2, 4) for _ in range(rng.randint(2, 5))),
        lambda: pick(rng, "+1 ", "1-", "+44 ", "0", "001-", "+1(", "") + "-".join((digits(rng, 3, 3), digits(rng, 3, 3), digits(rng, 4, 4))),
        lambda: f"{digits(rng)}.{digits(rng)}.{digits(rng)}" + pick(rng, "", ".1", "-2", "b3"),
        lambda: pick(rng, "iPhone 5s", "A4", "MP3", "4x4", "3-D", "2D", "24/7", "50/50", "7-Eleven", "U2", "H2O", "B-52",
                     "F-16", "1990s", "'80s", "80's", "1980-90", "20-something", "1,2,3", "1.", "2)", "3:", "10,000m",
                     "1e-5", "0.5-1.5", "1–2", "5—6", "16:9", "f/2.8", "1080p", "ISO 100", "50mm f1.8", "1/250s", "#1",
                     "3.14", ".22", "0.22-caliber", "9/11", "10-20%", "10%-20%", "1 000 000", "1'000", "12\"x16\""),
        lambda: digits(rng, 1, 3) + pick(rng, "x", "X", "×", " x ", "*", "-x-") + digits(rng, 1, 3) + pick(rng, "", "cm", "mm", " in", "\"", "px", "'", "ft.", "x" + digits(rng, 1, 2) + "cm"),
    ]  # fmt: skip
    return rng.choice(kinds)()


MONTHS = "January February March April May June July August September October November December".split()  # fmt: skip


def dates(rng: Random) -> str:
    month, day, year = rng.choice(MONTHS), str(rng.randint(1, 31)), str(rng.randint(1850, 2030))
    short = month[: rng.choice((3, 3, 3, 4))] + pick(rng, "", ".", ".", ",")
    number = rng.randint(1, 12)
    mark = rng.choice("--//..")
    kinds = [
        f"{month} {day}, {year}", f"{day} {month} {year}", f"{short} {day}, {year}", f"{short}{day}",
        f"{number}{mark}{day}{mark}{year}", f"{number:02}{mark}{day}{mark}{year[2:]}", f"{year}{mark}{number:02}{mark}{day}",
        f"{number}{mark}{day}", f"{day}th of {month}", f"{month} {day}th, {year}", f"'{year[2:]}", f"’{year[2:]}", f"{year}s",
        f"{year}'s", f"{year[:3]}0's", f"'{year[2]}0s", f"’{year[2]}0s", f"the {year[2]}0s", f"{year}-{year[2:]}", f"{year}–{year[2:]}",
        f"c.{year}", f"c. {year}", f"ca. {year}", f"circa {year}", f"({year})", f"{year}-{int(year) + 3}", f"{year} - present",
        f"{month}, {year}", f"{month}/{year}", f"{month}-{year}", f"{day}.{number}.{year}", f"{day}. {month} {year}", f"{year}.", f"{year}:",
        f"{number}/{year}", f"{year}/{number}/{day}", f"{year}{number:02}{int(day):02}", f"{day}-{month[:3]}-{year[2:]}", f"{day}/{month[:3]}/{year}",
        f"Sat., {short} {day}", f"Fri {day} {month[:3]} '{year[2:]}", f"{month} {day}-{int(day) + 2}, {year}", f"{month[:3]}. {day}–{int(day) + 2}", f"{year}AD", f"{year} B.C.",
        f"{year[:2]}th-century", f"early-{year}", f"mid-{year}s", f"mid {year}'s", f"©{year}", f"© {year}", f"{month[:3]}'{year[2:]}", f"{month[:3]} ’{year[2:]}", f"{number}|{day}|{year}",
        f"{year}T{number:02}:00:00Z", f"{day}{month[:3].upper()}{year}", f"{day}th-{int(day) + 2}th {month}", f"{number}-{day}-{year[2:]}.", f"est. {year}", f"est.{year}",
        f"{day}\u00ba {month}", f"{year}年{number}月{day}日", f"{day} {month[:3]}. {year}", f"'{year[2]}0's", f"{year[2]}0's", f"{month} '{year[2:]}", f"Dec {day} {number}/{day}", f"{day} {number}/{day}/{year}",
    ]  # fmt: skip
    return cased(rng, rng.choice(kinds))


def times(rng: Random) -> str:
    hour, minute, second = rng.randint(0, 24), rng.randint(0, 59), rng.randint(0, 59)
    half = pick(rng, "am", "pm", "a.m.", "p.m.", "AM", "PM", "A.M.", "P.M.", "a.m", "p.m", "a. m.", "h", "hrs", "o'clock",
                "o’clock", "Am", "uhr", "EST", "GMT+1")  # fmt: skip
    space = rng.choice(["", " ", " ", "\u00a0"])
    kinds = [
        f"{hour}:{minute:02}", f"{hour}:{minute:02}{space}{half}", f"{hour}{space}{half}", f"{hour}:{minute:02}:{second:02}", f"{hour}.{minute:02}{space}{half}",
        f"{hour}-{hour + 2}{space}{half}", f"{hour}:{minute:02}-{hour + 1}:{minute:02}", f"{hour}:{minute:02} - {hour + 1}:{minute:02}{half}", f"{hour}h{minute:02}", f"{hour}:{minute:02}{half}.",
        f"{hour}{half}-{hour + 1}{half}", f"{hour}{half} to {hour + 1}{half}", f"{hour}:{minute:02}{half},", f"{hour}:00{half}/{hour + 1}:00{half}", f"{hour}:{minute:02}–{hour + 1}:{minute:02}", f"({hour}:{minute:02})",
        f"@{hour}:{minute:02}", f"@ {hour}{half}", f"{hour}:{minute:02}:{second:02}.{rng.randint(0, 999)}", f"{minute}'{second:02}\"", f"{minute}:{second:02} min.", f"{minute} mins.", f"{hour}hrs{minute}min", f"{hour}ish",
        f"quarter to {hour}.", f"{hour}:{minute}?", f"{hour};{minute:02}", f"{hour} : {minute:02}", f"{hour}: {minute:02}", f"{hour}:{minute:02}!", f"{hour}:{minute:02}'s", f"{hour}:{minute:02}{half}'s", f"{hour}:{minute:02}...", f"~{hour}{half}",
        f"{hour}.{half}", f"{hour}:{minute:02}/{hour}:{minute:02}", f"t={hour}:{minute:02}", f"{hour}:{minute:02}h", f"\"{hour}:{minute:02}\"", f"{hour} 1/2 {half}", f"{hour}:{minute:02}am-{hour}:{minute:02}pm", f"{hour}:{minute:02}x",
    ]  # fmt: skip
    return cased(rng, rng.choice(kinds))


def currency(rng: Random) -> str:
    sign = pick(rng, *"$ $ $ £ £ € € ¥ ₹ ¢ ₩ ₽ ฿ ¤ US$ A$ C$ AU$ HK$ NZ$ R$ S$ CA$ Rs. Rs EUR USD GBP kr zł Kč ₺ ₫ ₱ £$ ＄ ￡ ￥ ₤ ₣".split())
    amount = pick(rng, digits, lambda r: f"{digits(r)}.{digits(r, 2, 2)}", lambda r: f"{r.randint(1, 99)},{digits(r, 3, 3)}", lambda r: digits(r, 1, 2) + pick(r, "k", "m", "bn", "M", ".99", ",50", ".-", ",-", "/-", ".00", "K+", " million", "-20"), ".99", "1/2", "1,000,000.00", "5½")  # fmt: skip
    kinds = [
        sign + amount, sign + amount, sign + amount, f"{sign} {amount}", amount + sign, f"{amount} {sign}", f"-{sign}{amount}", f"{sign}-{amount}", f"{sign}{amount}-{sign}{amount}",
        f"{sign}{amount}/{noun(rng)}", f"{sign}{amount}.", f"{sign}{amount},", f"({sign}{amount})", f"{sign}{amount}!", f"{sign}{amount}+", f"{sign}{amount} - {sign}{amount}",
        f"{sign}{amount}/lb", f"{sign}{amount}/mo.", f"{amount}¢", f"{amount} cents", sign * rng.randint(2, 4), f"{sign}{sign}{amount}", f"{sign}{noun(rng)}", f"{noun(rng)}{sign}", f"{sign}{amount}%", f"{sign}{amount}USD", f"{amount}{sign}{amount}",
        f"{sign}{amount}'s", f"${amount}-a-day", f"only{sign}{amount}", f"{sign}:{amount}", f"{sign}{amount}/{sign}{amount}", f"~{sign}{amount}", f"{sign}.{amount}", f"{sign}{amount}ea", f"${rng.choice(NAMES)}", f"{sign}{amount} {sign}{amount}", f"price:{sign}{amount}",
    ]  # fmt: skip
    return rng.choice(kinds)


def fractions(rng: Random) -> str:
    stroke = pick(rng, "/", "/", "/", "⁄", " / ", "\\/", "∕")
    part = f"{rng.randint(1, 30)}{stroke}{rng.randint(1, 64)}"
    sign = rng.choice("½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅙⅒⅐")
    whole = str(rng.randint(1, 400))
    unit = pick(rng, "cup", "inch", "mile", "lb.", "\"", "in.", "x", "-inch", "th", "ths", "'s", "%", "cm")
    kinds = [
        part, f"{whole} {part}", f"{whole}-{part}", f"{whole}  {part}", f"{whole}\u00a0{part}", f"{part} {unit}", f"{part}{unit}", f"{sign}", f"{whole}{sign}", f"{whole} {sign}", f"{sign}{unit}", f"{sign} {unit}", f"{whole}{sign}{unit}", f"{whole}-{sign}",
        f"{part}-{part}", f"{part} - {part}", f"{part}/{rng.randint(1, 9)}", f"({part})", f"{part}.", f"{part},", f"{whole}.{part}", f"{whole},{part}", f"${part}", f"{whole} {part} x {whole} {part}", f"{whole} and {part}", f"{part}x{part}", f"{whole} {whole} {part}", f"{sign}{sign}", f"-{part}", f"+{part}", f"#{part}",
        f"{whole}{part}{unit}", f"one{sign}", f"{sign}of", f"{part} of", f"{whole} {part}\"", f"{sign}-{sign}", f"1:{part}", f"{whole} - {part}", f"{sign}.", f"a{part}", f"{part}a", f"{whole} {part}-{unit}", f"&frac12; {unit}", f"{whole}&frac14;", f"{part}/{part}", f"{sign}/{sign}", f"12345/{whole}", f"{whole}/12345", f"{whole}{part}/{whole}",
    ]  # fmt: skip
    return rng.choice(kinds)


def _host(rng: Random) -> str:
    end = pick(rng, "com", "com", "com", "org", "net", "edu", "co.uk", "gov", "io", "de", "fr", "info", "tv", "me", "ly", "us", "ru", "jp", "cn", "biz", "museum", "com.au", "xyz", "photo", "COM")
    middle = pick(rng, noun, lambda r: noun(r) + noun(r), lambda r: f"{noun(r)}-{noun(r)}", lambda r: noun(r) + digits(r), "flickr", "shutterstock", "bbc", "123rf", "4chan", "getty_images")
    return pick(rng, "", "", "www.", "www.", "WWW.", "m.", "en.", "images.", "ftp.", "www2.") + f"{middle}.{end}"


def urls(rng: Random) -> str:
    path = pick(rng, "", "", "/", f"/{noun(rng)}", f"/{noun(rng)}/{digits(rng)}", f"/{noun(rng)}.html", f"/{noun(rng)}?id={digits(rng)}&x=1", "/#top", f"/~{noun(rng)}", f"/{noun(rng)}-{noun(rng)}_{digits(rng)}.jpg",
                f"/a(b)", "/?q=a+b", "/%20x", f":{digits(rng)}/", "/index.php?a=1;b=2", "/@user", "/a,b", "/a/b/c.", "?q", "#x", "/…", "/a...", "/wiki/Dog_(pet)", "/a'b", "/a|b", "/é", f"/{digits(rng)}x{digits(rng)}")  # fmt: skip
    scheme = pick(rng, "", "", "", "http://", "http://", "https://", "https://", "ftp://", "HTTP://", "Http://", "http:", "//", "https:/", "mailto:", "file:///", "hxxp://", "tel:", "http//", "https:// ")
    text = scheme + _host(rng) + path
    if not scheme and rng.random() < 0.2:
        text = pick(rng, f"http://{digits(rng)}", "http://localhost:8080", "http://t.co/AbC123", "bit.ly/2xYz", "192.168.0.1/x", "C:\\photos\\x.jpg", f"{noun(rng)}.jpg", f"img/{noun(rng)}.png", f"{noun(rng)}.com's", "youtu.be/x-y_z", f"pic.twitter.com/{noun(rng)}", "flickr.com/photos/1/2/", "goo.gl/maps/x", f"www.{noun(rng)}", "www.", "http://", "www.a", "Amazon.com:", "Yahoo!", "Booking.com,", f"{noun(rng)}.com.", f"{noun(rng)}.Com")
    return text


def emails(rng: Random) -> str:
    user = pick(rng, noun, lambda r: f"{noun(r)}.{noun(r)}", lambda r: f"{noun(r)}_{digits(r)}", lambda r: f"{noun(r)}+{noun(r)}", lambda r: f"{noun(r)}-{noun(r)}", "info", "INFO", "j.d", "a", "1a", "_x", "x!y", "o'brien", "né", "a&b", "a%b", "a/b", "a=b", "a.", "(a)", "99")
    host = pick(rng, _host, _host, _host, "localhost", "gmail", "x.y.z", "[10.0.0.1]", "mail.example.com", "a-b.co", "a_b.com", "b.c.", "éa.fr", "example,com", "ex ample.com")
    text = f"{user}{pick(rng, '@', '@', '@', '@', '@', '@', ' @ ', '@ ', ' @', '[at]', '(at)', ' at ', '＠')}{host}"
    return pick(rng, text, text, text, f"<{text}>", f"mailto:{text}", f"({text})", f"{text}, {noun(rng)}@x.org", f"{text}?subject=x", f"E-mail:{text}", f"{text}'s", f"\"{text}\"", f"{text}/{noun(rng)}", f"{text};{noun(rng)}@y.net", f"[{text}]", f"<{text}", f"{text}...", f"mail {text}!", f"{text}:")


def hashtags(rng: Random) -> str:
    name = pick(rng, noun, lambda r: noun(r) + noun(r).title(), lambda r: noun(r) + digits(r), lambda r: digits(r) + noun(r), lambda r: f"{noun(r)}_{noun(r)}", digits, "café", "日本", "TBT", "a", "x-y", "o'clock", "_x", "c.d", "é", "привет", "1", "FF00FF", "love❤", "Mr", "No.1", "can't")
    mark = rng.choice("###########@@@@@@＃＠")
    text = mark + name
    other = mark + noun(rng)
    return pick(rng, text, text, text, text, f"{text} {other}", f"{text}{other}", f"{text}, {other}", f"{mark} {name}", f"{mark}{text}", f"{text}#", f"#{text}", f"{text}!", f"{text}.", f"({text})", f"{text}'s", f"{noun(rng)}{text}", f"&{text}", f"{text}:", f"{text}…", f"{text}/{other}", f"via {text}", f".{text}", f"RT {text}:", f"{text}-{noun(rng)}", f"\"{text}\"", f"{text}#{digits(rng)}", f"{text}@{noun(rng)}", f"photo by {text}|{other}", f"{text}_", f"{text}.{noun(rng)}", f"@@{name}", f"C#", f"#{digits(rng)}{noun(rng)}", f"{noun(rng)}@{digits(rng)}")


def ellipses(rng: Random) -> str:
    dots = pick(rng, "...", "...", "...", "....", ".....", "..", "..", "…", "…", "……", ". . .", ". . . .", "......", ". ..", ".. .", "... ...", "…...", "...…", "⋯", "。。。", "‥", "․․․", "&hellip;", ".........", " . . . ", ". .", "....,", "...,", ". . . . .")
    first, second = noun(rng), noun(rng)
    after = pick(rng, *"! ? ) ] , ; : \" ' - * / & < 5 $5 .5 @".split())
    before = pick(rng, *"! ? ) ( , ; : \" ' 5 10 * - etc a I U.S Mr % $".split())
    return pick(rng, f"{first}{dots}", f"{first}{dots}{second}", f"{first} {dots} {second}", f"{dots}{second}", f"{dots} {second}", f"{first}{dots} {second}", f"{first} {dots}", f"{dots}{after}", f"{before}{dots}", f"{first}{dots}{digits(rng)}", f"{digits(rng)}{dots}{second}", f"[{dots}]", f"({dots})", f"{first.title()}{dots}{second.title()}", f"{first}'s{dots}", f"{first}{dots}{second}{dots}", f"wait{dots}what{dots}?", f"A{dots}", f"A.{dots}")


def dashes(rng: Random) -> str:
    dash = pick(rng, *"- - - -- -- --- ---- ----- – – — — ― ‒ ‐ ‑ − ~ – – - —— ‒ ⁃ ﹘ － ﹣ ⸺ ⸻ ֊ ־ 〜 ～ ─ ━ ⁓ -– -—".split(), "\u00ad", "\u0096", "\u0097", "- -", "-----------", "_", "__", "~~", "&mdash;", "&ndash;", "&#8211;", "&#8212;", "&shy;", "&minus;", "->", "-->", "<-", "<--", "=>", "=", "==", "===", "-=", "-.-", "-*-", "- ", " -", "|-|", "->>")
    first = pick(rng, noun, noun, noun, digits, rng.choice(NAMES), "U.S.", "re", "co", "X", "e", "non", "mother", "anti", "can't", "$5", "50%", "café", "a.m", "A", "(a)", "o'clock", "R&B", "3.5")
    second = pick(rng, noun, noun, noun, digits, rng.choice(NAMES), "U.S.", "like", "op", "ray", "mail", "in-law", "old", "'s", "$10", "60%", "été", "B", "a.m.", "(b)", ".5", "'n'", "1st", "?", "\"x\"")
    return pick(rng, f"{first}{dash}{second}", f"{first}{dash}{second}", f"{first} {dash} {second}", f"{first} {dash}{second}", f"{first}{dash} {second}", f"{dash}{second}", f"{first}{dash}", f"{first}{dash}{second}{dash}{noun(rng)}", f"{dash}", f"{dash}{dash}", f"{first}{dash}and {second}", f"{first}{dash},{second}", f"{first}.{dash}{second}", f"{first},{dash}{second}", f"{first}{dash}/{second}", f"{first}/{noun(rng)}{dash}{second}", f"{first}{dash}.")


_QUOTES = ["\"", "\"", "\"", "'", "'", "“", "”", "‘", "’", "''", "``", "`", "´", "«", "»", "‹", "›", "„", "‚", "‟", "‛", "&quot;", "&apos;", "&#39;", "&#34;", "&ldquo;", "&rsquo;", "′", "″", "‴", "＂", "＇", "\u0091", "\u0092", "\u0093", "\u0094", "''", "\\\"", "「", "」", "『", "』", "〝", "〞", "❝", "❞", "ʻ", "ʼ", "\"\"", "'\"", "\"'", "´´", "“”"]  # fmt: skip
_PAIRS = [("\"", "\""), ("\"", "\""), ("'", "'"), ("“", "”"), ("‘", "’"), ("``", "''"), ("`", "'"), ("«", "»"), ("‹", "›"), ("„", "“"), ("‚", "‘"), ("&quot;", "&quot;"), ("'", "’"), ("''", "''"), ("\u0093", "\u0094"), ("\u0091", "\u0092"), ("「", "」"), ("´", "´"), ("’", "’"), ("”", "”"), ("« ", " »"), ("\" ", " \""), ("“‘", "’”"), ("\"'", "'\"")]  # fmt: skip


def quotes(rng: Random) -> str:
    if rng.random() < 0.65:
        first, last = rng.choice(_PAIRS)
        inside = pick(rng, noun, lambda r: words(r, 2, 4), lambda r: cased(r, noun(r)), lambda r: r.choice(NAMES), digits, "No", "STOP", "I'm", "don't", "a", "s", "n", "d", "re", "90s", "em", "U.S.", "$5", "!", "", "n'", "till", "ll", "'", "cause", "twas", "é", "日", "T", "O'Neil")
        return first + inside + pick(rng, "", "", "", "", ".", ",", "!", "?", "...", " -", ";", "'s") + last + pick(rng, "", "", "", ".", ",", "!", "s", "'s", "-like", ")", ":", " " + noun(rng), noun(rng))
    mark = rng.choice(_QUOTES)
    return pick(rng, f"{noun(rng)}{mark}", f"{mark}{noun(rng)}", f"{noun(rng)}{mark}{noun(rng)}", f"{noun(rng)} {mark} {noun(rng)}", f"{digits(rng, 1, 2)}{mark}", f"{digits(rng, 1, 2)}{mark} x {digits(rng, 1, 2)}{mark}", f"{digits(rng, 1, 1)}'{digits(rng, 1, 2)}{mark}", f"{mark}{mark}", f"{noun(rng)}.{mark}", f"{mark}{digits(rng, 2, 2)}", f"{mark}{digits(rng, 2, 2)}s", f"{mark}n{mark}", f"{noun(rng)}s{mark} {noun(rng)}", f"{rng.choice('aAdDlLoOmMtTsSnN')}{mark}{noun(rng)}", f"{noun(rng)}in{mark}", f"{noun(rng)}{mark}{rng.choice('stdmSTDM')}", f"{rng.choice(NAMES)}{mark}s{mark}")


def brackets(rng: Random) -> str:
    first, last = rng.choice([("(", ")")] * 6 + [("[", "]")] * 3 + [("{", "}")] * 2 + [("<", ">")] * 2 + [("（", "）"), ("【", "】"), ("⟨", "⟩"), ("《", "》"), ("((", "))"), ("[[", "]]"), ("([", "])"), ("(", "]"), ("<<", ">>"), ("〔", "〕"), ("{{", "}}"), ("-LRB-", "-RRB-"), ("-lrb- ", " -rrb-"), ("⟦", "⟧"), ("［", "］"), ("｛", "｝"), ("＜", "＞"), ("⁽", "⁾"), ("<(", ")>"), ("（", ")")])  # fmt: skip
    inside = pick(rng, noun, lambda r: words(r, 2, 4), lambda r: words(r, 1, 2), digits, "c", "r", "tm", "s", "TM", "a", "A", "1", "left", "L-R", "3 of 5", "", "?", "!", "...", "c) 2010 (d", "es", "ren", "n.d.", "$5", "50%", "e.g.", "=^.^=", "^_^", "x", "o", "'s", "555", "212", "photo: J. Smith", "sic", "+1", "@home", "#1", "-", "*", "&", "/", "日本", "é", "8", "B", "i", "ii", "p", "D", "©")  # fmt: skip
    before = pick(rng, "", "", "", noun, lambda r: noun(r) + " ", ":", ";", "=", "8", "f", "B", "*", "-", ".", ",", "!", "5", "'", "\"", "/", "@", "#", "$", "&", "<", ">", "x", ":'", ":-", "</", "D", "http:")  # fmt: skip
    after = pick(rng, "", "", "", "", ".", ",", "s", noun, "'s", ":", ":-", ";", "!", "?", "/", "-", "\"", "'", "*", "#", "%", "=", ">", "5", "_")
    return before + pick(rng, first + inside + last, first + inside + last, first + inside + last, first + " " + inside + " " + last, first + inside, inside + last, first, last, f"{inside}{first}{noun(rng)}") + after


def slashes(rng: Random) -> str:
    slash = pick(rng, *["/"] * 12, "\\", "\\", " / ", "/ ", " /", "//", "\\/", "⁄", "∕", "|", " | ", "||", "¦", "/-/", "／", "&#47;", "\\\\", "/.", "./", "/,", "//\\\\", "\\*", "/*", "*/", "\\n", "\\t")
    first = pick(rng, noun, noun, noun, "and", "w", "s", "he", "his", "A", "n", "c", "AC", "TCP", "black", "24", "1", "9", "km", digits, "U.S.", "can't", "half-full", "photo", "$5", "50%", "été", "30s", "W", "b", "a-b-c", "M", "(a)", "mr.", "3.5", "2,000", "x_y", "a.m.", "'90s", "\"a\"", "A&B", "日", "R2-D2", "@a", "#a")
    second = pick(rng, noun, noun, noun, "or", "o", "she", "her", "B", "a", "o", "DC", "IP", "white", "7", "2", "11", "h", digits, "U.K.", "won't", "half-empty", "video", "$10", "60%", "à", "40s", "H", "c", "d-e-f", "F", "(b)", "mrs.", "4.5", "3,000", "y_z", "p.m.", "'80s", "\"b\"", "C&D", "本", "C-3PO", "@b", "#b", "'s", ".", ",", "!")
    text = first + slash + second
    return pick(rng, text, text, text, text + slash + noun(rng), f"{slash}{second}", f"{first}{slash}", slash, f"w{slash}{noun(rng)}", f"w{slash}o", f"{text}{slash}{digits(rng)}{slash}{noun(rng)}", f"{text}-{noun(rng)}", f"{noun(rng)}-{text}", f"{text}.", f"{text},", f"({text})", f"{text}'s", f"n{slash}a", f"a{slash}k{slash}a", f"{slash}{first}{slash}{second}{slash}")


def ampersands(rng: Random) -> str:
    sign = pick(rng, *["&"] * 10, " & ", " & ", "&amp;", "&amp;", " &amp; ", "＆", "&&", "+", " + ", "& ", " &", "&AMP;", "&amp", "&amp;amp;", "&#38;", "﹠", "'n'", "&/", "&-", "&.", "⅋")
    first = pick(rng, noun, noun, lambda r: noun(r).upper(), "B", "R", "AT", "H", "P", "Q", "A", "M", "S", "a", "b", "1", "50", "Barnes", "Johnson", "r", "Q&A", "café", "U.S.", "x1", "dog's", "rock", "É", "$5", "black-white", "B&B", "AB", "C.", "half/half", "Jr.", "日", "20%", "Ben", "b.")
    second = pick(rng, noun, noun, lambda r: noun(r).upper(), "B", "T", "M", "G", "A", "B's", "b", "2", "60", "Noble", "Co.", "Co", "Son", "Sons.", "b's", "été", "roll", "É", "U.K.", "x2", "white-black", "Bs", "CD", "more!", "$10", "30%", "本", ".", ",", "'s", "J", "Jerry's", "W")
    text = first + sign + second
    return pick(rng, text, text, text, text, f"{text}{sign}{noun(rng)}", f"{sign}{second}", f"{first}{sign}", sign, f"({text})", f"{text}.", f"{text}'s", f"{text}-{noun(rng)}", f"{text}/{noun(rng)}", f"{text},", f"{rng.choice('ABCDEFGHRTXYZ')}&{rng.choice('ABCMNRTXYZ')}", f"{rng.choice('ABCDabcd')}&{rng.choice('ABCMabcm')}{sign}{rng.choice('Xx')}")


_ENTITIES = """amp lt gt quot apos nbsp copy reg trade mdash ndash hellip lsquo rsquo ldquo rdquo eacute Eacute egrave agrave
uuml ouml auml ntilde ccedil szlig iexcl pound euro cent yen deg frac12 frac14 frac34 times middot bull laquo raquo sect para
shy zwj larr rarr hearts alpha micro sup2 sup3 ordm acute circ tilde oslash aring aelig iacute oacute uacute aacute ugrave
igrave ograve iuml euml atilde otilde thinsp ensp emsp dagger permil prime Prime minus infin ne le ge AMP LT GT QUOT NBSP""".split()
_TAGS = "b i p br hr a img div span em strong h1 h2 td tr table font u li ul center small sup sub B BR IMG A P script style code o:p dog x dt".split()


def markup(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        text = f"&{rng.choice(_ENTITIES)};"
        if rng.random() < 0.25:
            text = pick(rng, f"&#{rng.choice([33, 34, 38, 39, 60, 62, 160, 163, 169, 174, 233, 8211, 8212, 8216, 8217, 8220, 8221, 8230, 8364, 8482, 128512, 10, 13, 0, 65, 65279])};", f"&#x{rng.choice(['27', '2019', 'A0', 'e9', '1F600', '26', '3c'])};", f"&#{digits(rng, 1, 5)}", html.escape(pick(rng, "<b>", "a & b", "\"x\"", "it's", "<a href='x'>")), f"&{rng.choice(_ENTITIES)}", f"& {rng.choice(_ENTITIES)};", f"&amp;{rng.choice(_ENTITIES)};", f"&{noun(rng)};", f"&amp;#39;s")
        return pick(rng, text, f"{noun(rng)}{text}{noun(rng)}", f"{noun(rng)}{text}", f"{text}{noun(rng)}", f"{noun(rng)} {text} {noun(rng)}", f"{text}{text}", f"caf{text}", f"{text}t{text}", f"{rng.choice(NAMES)}{text}s", f"{text}{digits(rng)}", f"{digits(rng)}{text}", f"({text})", f"{text}.", f"AT{text}T", f"R{text}B", f"don{text}t", f"fa{text}ade", f"{text}-{noun(rng)}")
    tag = rng.choice(_TAGS)
    attribute = pick(rng, f' href="{noun(rng)}.html"', f" src='{noun(rng)}.jpg'", f" class={noun(rng)}", f' alt="a {noun(rng)}"', " ", f' width="{digits(rng)}" height={digits(rng)}', " disabled", ' style="color: red; font-size:10px"', f' href="http://www.x.com/a?b=1&c=2"', f" title='it''s'", f" x>y", "\t", f" data-x='1'", " /", f" {noun(rng)} {noun(rng)}", ' alt="<x>"')
    open_, close = f"<{tag}{attribute if rng.random() < 0.4 else ''}>", f"</{tag}>"
    return pick(rng, f"{open_}{noun(rng)}{close}", open_, close, f"{open_} {noun(rng)} {close}", f"<{tag}/>", f"<{tag} />", f"{noun(rng)}<{tag}>{noun(rng)}", f"{noun(rng)} <{tag}> {noun(rng)}", f"<!-- {noun(rng)} -->", f"<!--{noun(rng)}-->", f"<!DOCTYPE {tag}>", f"<?xml version='1.0'?>", f"<{noun(rng)}", f"{noun(rng)}>", f"<{tag}", f"< {tag} >", f"<{digits(rng)}>", f"<3", f"< 5", f"a<b", f"{open_}{open_}{noun(rng)}{close}{close}", f"{noun(rng)}.{open_}", f"{open_}.", f"</ {tag}>", f"<{tag} {noun(rng)}", f"<@{noun(rng)}>", f"<{noun(rng)}@x.com>", f"<http://x.com/{noun(rng)}>", f"[{tag}]{noun(rng)}[/{tag}]", f"<unk>", f"<end>", f"<s> {noun(rng)} </s>", f"<|{tag}|>", f"<{tag}:{noun(rng)}>", f"<_{tag}>", f"<{tag}-{noun(rng)}>", f"<-{tag}->", f"<é>", f"<{rng.choice(NAMES)}>", f"<{tag}>{noun(rng)}'s{close}", f"<{tag}.>", f"{{{tag}}}", f"${{{tag}}}")


_ACCENTED = """café naïve résumé façade jalapeño piñata fiancée crème brûlée Zürich São Paulo Malmö Århus Søren Łódź Škoda
Dvořák Beyoncé Pokémon señor niño über Straße Köln Élysée déjà-vu voilà à Ångström smörgåsbord Tromsø Reykjavík Þingvellir
Đà Nẵng phở Việt Nam İstanbul Şişli ğ čevapi žena naïveté coöperate œuvre cœur Æther mañana Ñandú Čapek Gdańsk żubr Pāua Māori
Hawaiʻi l’été d'été c'était jusqu'à aujourd'hui l'Équipe D'Équipe qu'à cigüeña pingüino château Château-d'Œx Noël garçon
Curaçao Bogotá México Perú cafés' René's José's Göteborg’s Citroën Häagen-Dazs Mötley Crüe Nestlé© Öl ÄÖÜ äöüß ñ É""".split()


def accents(rng: Random) -> str:
    text = rng.choice(_ACCENTED)
    if rng.random() < 0.25:
        letters = list(noun(rng))
        at = rng.randrange(len(letters))
        mark = rng.choice("\u0301\u0300\u0302\u0308\u0303\u030a\u0327\u030c\u0304\u0328\u0331\u0323\u20dd\u0338")
        letters[at] += mark * rng.choice((1, 1, 1, 2))
        text = "".join(letters)
    elif rng.random() < 0.4:
        text = unicodedata.normalize(rng.choice(("NFD", "NFKD", "NFC")), text)
    elif rng.random() < 0.15:
        text = noun(rng) + rng.choice("áéíóúàèìòùâêîôûäëïöüãõñçåøæœßłđðþžščřěůąęśćńźżğışőűÁÉÖÜÇÑŠŽØÅÆŒĲĳŀŉǆǅﬁﬂªº") + rng.choice(["", noun(rng)])
    return cased(rng, text) + pick(rng, "", "", "", "", "'s", "’s", "-" + noun(rng), "/" + noun(rng), ".", ",", "5", "!", "n't", "'ll", "&co", ".com", "\u0301", "@x.fr", "...", ")")


_SCRIPT_TEXTS = """日本語 東京タワー 寿司 こんにちは カメラ 写真 한국어 서울 사진 中文 北京 图片 照片素材 猫と犬 犬。 猫、犬 「猫」 ｶﾒﾗ Ａ４ １２３ カフェ・バー スーパー
привет Москва фото собака собаки' кошка и собака Ёлка її Київ є’ об’єкт мир! «дом» Αθήνα φωτογραφία σκύλος γάτα; ΕΛΛΆΔΑ ς άνθρωπος מחשב שלום תמונה כלב
צה״ל ג׳ירפה תל־אביב שָׁלוֹם العربية صورة كلب، كتاب؟ مَدْرَسَة ٣٤٥ ۱۲۳ ۵٫۵ ١٬٠٠٠ پارسی می‌خواهم हिन्दी तस्वीर कुत्ता १२३ नमस्ते। क्षत्रिय ไทย กรุงเทพ ภาพถ่าย สุนัข ๑๒๓ ฿ ลาว ພາສາ
বাংলা ছবি தமிழ் படம் తెలుగు ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ සිංහල မြန်မာ ខ្មែរ ქართული Հայերեն հայ՛ አማርኛ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ монгол ᠮᠣᠩᠭᠣᠯ བོད་ ޓާނަ ⲕⲟⲡⲧ ⵜⵉⴼⵉ 𝒮𝒸𝓇𝒾𝓅𝓉 𝐁𝐨𝐥𝐝
ｆｕｌｌ ⓐⓑ Ⅳ ⅷ ① ⒈ ㈱ ㎏ ㍿ ㄅㄆ ꦗꦮ 𠮷野家 Ꭰ 한글 ٪ ۔ ؟ ، ؛ 。 、 ・ ！ ？ ： ； ～ 〜 ーー ％ ５０％ ￥500 5円 2020年 ½カップ Привет, мир. ΑΒΓ-123 X線 T恤 пре-""".split()


def scripts(rng: Random) -> str:
    text = rng.choice(_SCRIPT_TEXTS)
    kind = rng.random()
    if kind < 0.35:
        first, last = rng.choice([(0x4E00, 0x9FCC), (0x3041, 0x30FF), (0xAC00, 0xD7A3), (0x620, 0x6FF), (0x410, 0x451), (0x391, 0x3CE), (0x5D0, 0x5EA), (0x904, 0x96F), (0xE01, 0xE5B), (0x531, 0x587), (0x10A0, 0x10FF), (0x980, 0x9F0), (0xB85, 0xBF2), (0xC05, 0xC6F), (0x1200, 0x137F), (0x1780, 0x17F9), (0x1000, 0x109F), (0xF00, 0xFDA), (0x1E00, 0x1FFF), (0x2100, 0x214F), (0xFF00, 0xFFEF), (0x3000, 0x30FF), (0x250, 0x2FF), (0x13A0, 0x13F4), (0x700, 0x7FF), (0xA000, 0xA4CF), (0x2C00, 0x2DFF), (0xFB00, 0xFDFF)])
        text = "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8)))
        text = " ".join(filter(None, text.split())) or "日本"
    elif kind < 0.5:
        text += pick(rng, *_SCRIPT_TEXTS)
    joint = rng.choice(["", "", "", "-", "/", " ", ", ", ".", "'", "’", "(", ":", "&", "_"])
    return pick(rng, text, text, f"{text}{joint}{noun(rng)}", f"{noun(rng)}{joint}{text}", f"{text}{joint}{digits(rng)}", f"{digits(rng)}{joint}{text}", f"{text}{joint}{rng.choice(_SCRIPT_TEXTS)}", f"({text})", f"“{text}”", f"{text}'s", f"{text}.", f"{text},", f"{text}!", f"#{text}", f"@{text}", f"{text}...", f"{text}n't", f"{text}%", f"${text}")


_EMOJI = """😀 😂 ❤️ ❤ 👍 👍🏽 👨‍👩‍👧‍👦 🇺🇸 🇯🇵 1️⃣ #️⃣ *️⃣ 5⃣ ☀️ ☀ ☕ ⭐ ✨ ✈️ ✔ ✓ ✖ ☺️ ☹ ♥ ♡ ♪ ♫ ★ ☆ ✿ ❄ ☃ ⚽ ⚾ ⛄ ➡️ → ← ↑ ⇒ • ● ■ ▲ ► ◆ ○ □ ▪ ▶ ♂ ♀ 👩‍💻 🧑🏿‍🚀 🏳️‍🌈 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🐶 🐱 🍕
🎉 🔥 💯 😍🤣 ©️ ®️ ™️ ‼️ ⁉️ ㊗️ 〰️ ⌚ ⏰ ☎ ✉ ✂ ♻ ⚠️ ☠ ☮ ☯ ♠ ♣ ♦ 🀄 🅰️ 🆗 🈵 🫠 🥹 ◀ ☞ ✌🏻 ✌ ☝️ ✊ 🤦🏼‍♀️ 💁‍♂️ ❣️ ➕ ➖ ✅ ❌ ❓ ❗ ⬛ 🔟 🚲""".split()
_FACES = """:) :-) ;) ;-) :( :-( :D :-D :P :-P :p :o :-O =) =( =D :/ :-/ :\\ :| :-| :* :-* <3 </3 :3 xD XD :') :'( ;P ;D 8) 8-) B-) :] :[ =] =P :} :{
:@ :$ :# :S :-S :X :-x >:( >:) O:) o_O O_o o.O -_- ^_^ ^.^ ^^ T_T T.T >_< >.< x_x (^_^) (-_-) (=^.^=) (>_<) ¯\\_(ツ)_/¯ (╯°□°)╯ \\o/ o/ :-)) :)) :-]
(: (-: ): ;( :c :b :-b :0 :-0 (8 <:( :*) :o) :^) =^.^= =_= ~_~ '-' *_* 0_0 ._. u_u (y) (n) ;_; ;-; :'-) >:D >;) <3<3 <333 :>""".split()


def emoji(rng: Random) -> str:
    text = pick(rng, *_EMOJI, *_FACES)
    other = rng.choice(_EMOJI)
    return pick(rng, text, text, text, text + text, text + other, f"{noun(rng)}{text}", f"{text}{noun(rng)}", f"{noun(rng)} {text} {noun(rng)}", f"{text} {other}", f"{text}.", f"{noun(rng)}.{text}", f"({text})", f"{noun(rng)}{text}{noun(rng)}", f"{text}{digits(rng)}", f"{digits(rng)}{text}", f"{text}!", f"!{text}", f"#{noun(rng)}{text}", f"{text}{text}{text}", f"{noun(rng)}-{text}", f"{text}'s", f"“{text}”", f"{text},")


_CONTROLS = [chr(p) for p in (*range(0x00, 0x0A), *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0))]
_INVISIBLE = ["\u00a0", "\u00a0", "\u00a0", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\ufeff", "\u00ad", "\u2060", "\u202a", "\u202c", "\u202e", "\u2066", "\u2003", "\u2009", "\u202f", "\u3000", "\ufffc", "\ufffd", "\u180e", "\ufe0f", "\u2000", "\u205f", "\u1680", "\t", "\t", "\x7f", "\x00", "\x1b[31m", "\x1b[0m", "\ue000", "\uf8ff", "\u034f", "\u061c", "\ufffe", "\uffff", "\u2062", "\U000e0020", "\x85", "\x80", "\x99", "\x08"]  # fmt: skip


def controls(rng: Random) -> str:
    mark = rng.choice(_CONTROLS) if rng.random() < 0.4 else rng.choice(_INVISIBLE)
    mark *= rng.choice((1, 1, 1, 1, 2, 3))
    first = pick(rng, noun, noun, noun, digits, "Mr.", "U.S.", "it's", "don", "$5", "A", "a.m.", "St.", "1/2", "café", "dogs'", "(a)", "no.", "half-", "www.x", "#tag", "@a", "\"", "-", "...", "Dr. Smith")
    second = pick(rng, noun, noun, noun, digits, "'s", "n't", "'t", "5", "1/2", ".", ",", "-eaten", "A", ".com", "\"", "The", "'90s", "é", "%", "!", "(b)")
    return pick(rng, f"{first}{mark}{second}", f"{first}{mark}{second}", f"{first}{mark}", f"{mark}{second}", f"{first} {mark} {second}", f"{first}{mark} {second}", f"{first} {mark}{second}", mark + first + mark, f"{first}{mark}{second}{mark}{noun(rng)}", f"{first}.{mark}", f"{mark}.")
