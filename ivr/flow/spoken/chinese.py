"""Chinese as it is said and typed: the table of its characters, and a reader for each kind.

A text is folded first: traditional and banking characters become the plain ones, spaces and
punctuation that carry nothing go. Readers are patterns over what is left, in which a number may
stand in characters or in numerals alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from ivr.flow.spoken.english import numeral
from ivr.flow.spoken.english_words import row

DIGITS = {char: value for value, chars in enumerate(
    ("零〇洞", "一幺么", "二两", "三", "四", "五", "六", "七拐", "八", "九勾")) for char in chars
}  # fmt: skip
UNITS = {"十": 10, "百": 100, "千": 1_000, "万": 10_000, "亿": 100_000_000}
FOLDED = str.maketrans(
    "兩萬點號週後個時鐘塊錢圓億負對錯這禮過廿壹贰貳叁參肆伍陆陸柒捌玖拾佰仟俩",
    "两万点号周后个时钟块钱元亿负对错这礼过廿一二二三三四五六六七八九十百千两",
)
WEEKDAYS = {"一": 0, "二": 1, "三": 2, "四": 3, "五": 4, "六": 5, "日": 6, "天": 6, "末": -1}
RELATIVE_DAYS = {
    "大大后天": 4, "大后天": 3, "大后日": 3, "大前天": -3,
    "今天": 0, "今儿": 0, "明儿": 1, "后儿": 2, "今日": 0, "今晚": 0, "今早": 0,
    "明天": 1,
    "明日": 1, "明晚": 1, "明早": 1, "后天": 2, "后日": 2, "昨天": -1, "昨日": -1, "昨晚": -1,
    "前天": -2,
}  # fmt: skip
YEARS = {"今年": 0, "本年": 0, "明年": 1, "后年": 2, "去年": -1, "前年": -2}
HOLIDAYS = {
    "元旦": (1, 1), "情人节": (2, 14), "妇女节": (3, 8), "愚人节": (4, 1), "劳动节": (5, 1),
    "五一": (5, 1), "青年节": (5, 4), "儿童节": (6, 1), "六一": (6, 1), "建军节": (8, 1),
    "教师节": (9, 10), "国庆节": (10, 1), "国庆": (10, 1), "双十一": (11, 11), "平安夜": (12, 24),
    "圣诞节": (12, 25), "圣诞": (12, 25), "双十二": (12, 12),
}  # fmt: skip
# The part of the day, and what it makes of an hour on the clock face.
PARTS = {
    "凌晨": "early", "半夜": "night", "深夜": "night", "早上": "am", "早晨": "am", "清晨": "am",
    "上午": "am", "今早": "am", "明早": "am", "中午": "noon", "下午": "pm", "午后": "pm",
    "傍晚": "night", "晚上": "night", "今晚": "night", "明晚": "night", "夜里": "night",
    "夜晚": "night", "早": "am", "晚": "night",
}  # fmt: skip
DOLLARS = "人民币|美元|美金|欧元|英镑|港币|块钱|元|块|刀|圆"
FILLERS = row(
    "不好意思 麻烦你 麻烦您 请问一下 请问 那个 这个 就是 然后 好像 大概 大约 应该 可能 "
    "左右 号码 账号 账户 "
    "我的 我是 我想 我要 我说 您好 你好 谢谢 预约 密码 电话 金额 数字 日期 时间 生日 "
    "出生 等一下 等等 就 "
    "嗯 啊 呃 额 哦 噢 喔 唉 哎 嘛 呢 吧 呀 啦 哈 是的 是 的 在 约 我 了 它 他 您 你 要 想 "
    "来 去 那 这 "
    "定 订 改 到 好 给 行 可以 都 也 还 有 再 和 共 总 一共 总共 请 说 叫 为 差不多 大约是"
)
# Words in which a number character counts nothing.
IDIOMS = row(
    "等一下 稍等一下 一下 第一 统一 一样 一些 一直 一起 一定 一会儿 一会 一般 "
    "十分感谢 四川 三亚 九江 "
    "一边 唯一 一共 多谢 星期一 星期二 星期三 星期四 星期五 星期六 周一 周二 周三 周四 周五 周六"
)
CORRECTIONS = re.compile(
    "(?<=[，,])不(?=[，,])|[，,]是(?!的)|不对不对|不对|不是的|不是(?=[,， ])|错了|说错了|哦不|噢不"
    "|应该是|我是说|我的意思是|更正|改成|等等|等一下"
)
NEGATED = re.compile("不是(?![,， ])|不要|不能|不行|除了|没空|别(?!的)")
# A number that is left open (三十几, 二十多) is no number.
VAGUE = re.compile(
    "[一二三四五六七八九十百千万\\d][几多余](?!少)|几[十百千万个块]|[块元]多|[十百]来[块个元]"
    "|(?<![零一二三四五六七八九十百千万\\d])(?:一两|二三|两三|三四|三五|四五|五六|六七|七八|八九)"
    "[个块次天岁人十百千万]|一点(?![零一二三四五六七八九十\\d])|[一两二三\\d]打"
)
YES = row(
    "是 是的 对 对的 对对 对对对 对啊 对呀 对了 好 好的 好啊 好吧 行 行啊 可以 可以的 没错 "
    "没问题 正确 确认 确定 嗯 嗯嗯 要 要的 需要 当然 当然可以 是啊 是呀 同意 有 就是 就是这个 "
    "正是 没有错 ok 不错 愿意 想 需要的 好好好 成 必须的 是这样 是这样的 没有问题 没意见 是是 "
    "是是是 ok的 嗯哼 行行行 那好 那好吧 确实 肯定 肯定是"
)
NO = row(
    "不 不是 不是的 不对 不对的 不行 不可以 不要 不用 不用了 不要了 不需要 错 错了 错误 "
    "不正确 没有 否 不好 不同意 不确认 不想 别 不必 不必了 算了 不太对 不对啊 不是啊 不是这个 "
    "取消 不愿意 没 不了 先不用 暂时不用 不能 免了 弄错了 搞错了 说错了 不用谢谢 不不不 不不 "
    "不可能 当然不 当然不是 肯定不是 肯定不 绝对不是"
)

UNSURE = row(
    "不知道 不清楚 不确定 不一定 不好说 不明白 可能 可能吧 也许 什么 听不懂 没听懂 没听清 "
    "不好意思 对不起 可以吗 行吗 对吗 是吗 好吗 是不是 对不对 行不行 好不好 可不可以 不要紧 "
    "没关系 无所谓"
)

_DIGIT = "".join(DIGITS)
_NUMERAL = "[" + _DIGIT + "".join(UNITS) + r"廿卅\d]"
NUMBER = rf"(?:\d[\d,]*(?:\.\d+)?(?:[百千万亿]+(?:\d{{1,4}}[十百千]?)*)?|{_NUMERAL}+)"
_NUMBER_RUN = re.compile(rf"(负|-)?({NUMBER})(?:点([{_DIGIT}\d]+))?([万亿])?(个?半)?|半")


def fold(text: str) -> str:
    """Plain characters, no spaces between words; signs that numbers and dates use are kept."""
    text = re.sub(r"[廿]", "二十", text.translate(FOLDED)).replace("卅", "三十")
    text = re.sub(r"[，。！？；、…~“”‘’\"'!?;]+", " ", text)
    text = re.sub(r"(?<=\d)\s+(?=\d)", "\x00", text)
    return text.replace(" ", "").replace("\x00", " ").strip(" ,.")


def without(text: str, words: list[str]) -> str:
    """The text with these words taken out, the longest first."""
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "")
    return text


# --- numbers ------------------------------------------------------------------------------------


def value(text: str) -> Decimal | None:
    """A number in characters or numerals: 三百零五, 一万二, 1.5万, 二零二六, 3百."""
    typed = re.fullmatch(r"(\d[\d,]*(?:\.\d+)?)([百千万亿]*)", text)
    if typed:
        plain = numeral(typed[1])
        for unit in typed[2]:
            plain = None if plain is None else plain * UNITS[unit]
        return plain
    if not any(char in UNITS for char in text):
        digits = "".join(str(DIGITS[c]) if c in DIGITS else c for c in text)
        return Decimal(digits) if digits.isdigit() and len(digits) <= 18 else None
    return _with_units(text)


def _with_units(text: str) -> Decimal | None:
    """The value of characters with 十百千万亿; a last digit without its unit takes the next one."""
    total = section = 0
    digit: int | None = None
    last_unit = 0
    zero = False
    for char in re.findall(r"\d+|.", text):
        if char in DIGITS or char.isdigit():
            number = DIGITS[char] if char in DIGITS else int(char)
            if digit not in (None, 0):
                return None
            zero = zero or (number == 0)
            digit = number
        elif char in ("万", "亿"):
            section += digit or 0
            if section == 0:
                return None
            total = (
                (total + section) * UNITS[char] if char == "亿" else total + section * UNITS[char]
            )
            section, digit, last_unit, zero = 0, None, UNITS[char], False
        else:
            unit = UNITS[char]
            if digit is None and char != "十":
                return None
            if section and unit >= last_unit and last_unit < 10_000:
                return None
            section += (digit or 1) * unit
            digit, last_unit, zero = None, unit, False
    if digit:
        omitted = last_unit // 10 if last_unit >= 100 and not zero and digit < 10 else 1
        section += digit * omitted
    return Decimal(total + section)


def whole(text: str) -> int | None:
    """A small whole number, for days and hours."""
    found = value(text)
    return int(found) if found is not None and found == found.to_integral_value() else None


def _numbers(text: str) -> Iterator[Decimal | None]:
    for match in _NUMBER_RUN.finditer(text):
        if match.group() == "半":
            yield Decimal("0.5")
            continue
        if re.match(r"两[一二三四五六七八九]$", match[2]):
            yield None
            continue
        number = value(match[2])
        if number is not None and match[3]:
            tail = "".join(str(DIGITS[c]) if c in DIGITS else c for c in match[3])
            number += Decimal("0." + tail[:9])
        if number is not None and match[4]:
            number *= UNITS[match[4]]
        if number is not None and match[5]:
            number += Decimal("0.5")
        yield -number if match[1] and number is not None else number


def number(text: str) -> int | float | None:
    """The one number that a text holds."""
    text = without(fold(text), IDIOMS).replace("一半", "半")
    found = set() if VAGUE.search(text) else set(_numbers(text))
    only = found.pop() if len(found) == 1 else None
    if only is None:
        return None
    return int(only) if only == only.to_integral_value() else float(only)


# --- digits -------------------------------------------------------------------------------------

_PAUSES = row(
    "嗯 啊 呃 额 那个 这个 就是 然后 再 横杠 杠 减 空格 接着 后面 后面是 最后 最后是 前面 "
    "前面是 加 逗号 点 "
    "区号 还有 的"
)
_REPEATED = re.compile(rf"([二两三四五六七八2-8])个([{_DIGIT}\d])")
_RUN = re.compile(rf"(?:{_NUMERAL}|双(?=[{_DIGIT}\d]))+")
_TWO_DIGITS = re.compile(rf"([{_DIGIT}\d]?)十([{_DIGIT[1:]}\d]?)")


def digit_runs(text: str) -> list[list[str]]:
    """The stretches of digits in a text, each with its readings, likeliest first."""
    text = re.sub(r"[\s\-.,()/+]+", "", without(fold(text), IDIOMS))
    text = without(text, _PAUSES)
    text = _REPEATED.sub(lambda m: _as_digits(m[2]) * int(_as_digits(m[1])), text)
    return [readings for run in _RUN.findall(text) if (readings := _readings(run))]


def _as_digits(text: str) -> str:
    return "".join(str(DIGITS[c]) if c in DIGITS else c for c in text)


def _readings(run: str) -> list[str]:
    run = re.sub(rf"双([{_DIGIT}\d])", r"\1\1", run)
    if not any(char in UNITS for char in run):
        return [_as_digits(run)]
    readings = []
    if any(char in "百千万亿" for char in run):
        amount = value(run)
        if amount is not None:
            readings.append(f"{amount:f}")
        # "四百八百" and the like: each hundred by itself.
        parts = re.findall(rf"[{_DIGIT}\d]+[百千万]", run)
        if "".join(parts) == run and len(parts) > 1:
            readings.append("".join(f"{part_value:f}" for p in parts if (part_value := value(p))))
        tail = re.match(rf"([{_DIGIT}\d])([百千])([{_DIGIT}\d]{{2,}})$", run)
        if tail:
            head = value(tail[1] + tail[2])
            readings.append(f"{head:f}{_as_digits(tail[3])}")
    elif run.count("十"):
        pairs = _TWO_DIGITS.sub(
            lambda m: (_as_digits(m[1]) or "1") + (_as_digits(m[2]) or "0"), run
        )
        readings.append(_as_digits(pairs))
        readings.append(_as_digits(run.replace("十", "10")))
    return list(dict.fromkeys(readings))


# --- money --------------------------------------------------------------------------------------


def money(text: str) -> float | None:
    """The one amount that a text holds."""
    text = without(fold(text), IDIOMS)
    found = [] if VAGUE.search(text) else list(_amounts(text))
    return round(float(found[0]), 2) if len(set(found)) == 1 else None


_MONEY = re.compile(
    rf"(?P<sign>负|-)?(?:[¥$€£]|人民币|美元|美金)?"
    rf"(?:(?P<main>{NUMBER})(?:点(?P<point>[{_DIGIT}\d]+))?(?P<scale>[万亿])?"
    rf"(?:(?P<cent>毛|角|美?分)(?P<rest>[{_DIGIT}\d])?[分钱]*"
    rf"|(?P<unit>{DOLLARS})(?P<tail>半|(?:零?[{_DIGIT}十\d]+(?:[毛角][{_DIGIT}\d]?)?)?(?:零?[{_DIGIT}十\d]*美?分)?)?[钱整]*)?"
    rf"|(?P<halfunit>半(?:{DOLLARS})))"
)


def _amounts(text: str) -> Iterator[Decimal]:
    for match in _MONEY.finditer(text):
        if match["halfunit"]:
            yield Decimal("0.5")
            continue
        amount = value(match["main"])
        if amount is None:
            return
        if match["point"]:
            amount += Decimal("0." + _as_digits(match["point"])[:9])
        if match["scale"]:
            amount *= UNITS[match["scale"]]
        if match["cent"]:
            amount = amount / (10 if match["cent"] in "毛角" else 100)
            amount += Decimal(_as_digits(match["rest"])) / 100 if match["rest"] else 0
        amount += _tail(match["tail"] or "")
        yield -amount if match["sign"] else amount


# What may follow the yuan: how much of it is jiao, and how much fen.
_TAILS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"零?(?P<jiao>[{_DIGIT}\d])[毛角](?:零?(?P<fen>[{_DIGIT}\d])分?)?",
        rf"(?P<fen>零[{_DIGIT}\d])分?",
        rf"零?(?P<fen>[{_DIGIT}十\d]+)美?分",
        rf"(?P<jiao>[{_DIGIT}\d])(?:(?P<fen>[{_DIGIT}\d]))?",
        rf"(?P<fen>[{_DIGIT}十]{{2,3}})",
    )
)


def _tail(text: str) -> Decimal:
    """What follows the yuan: 五 is five jiao, 零五 five fen, 五毛三 53 fen, 半 half a yuan."""
    if text == "半":
        return Decimal("0.5")
    for pattern in _TAILS:
        match = pattern.fullmatch(text)
        if match is not None:
            parts = match.groupdict()
            return _small(parts.get("jiao")) / 10 + _small(parts.get("fen")) / 100
    return Decimal(0)


def _small(text: str | None) -> Decimal:
    return (value(text.lstrip("零") or "零") or Decimal(0)) if text else Decimal(0)
