"""Words, sentences and other pieces of text, drawn once; records are put together from them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_COMMON = """
the a of and is in to with on it are this that for as an be has by at from image their or which can there two his
one man while have people he also its they woman some appears other you more not person her what was they are both
we such each into all these would could how been may several where might being suggests sitting white standing
scene next near various background front different around side red street visible table wearing black between out
through overall water food holding looking three group large left right blue small along top when who another use
additionally if time up many but area green building car so any hand way like make around place possibly old down
field over train new first work day young room creating walking bus make game kitchen help bench during towards
across horse because enjoying cat dog playing part then atmosphere well close ball must important using likely tree
open plate different than light yellow back set brown grass chair line cars sign snow about bed bowl cup skateboard
air four long bottle sky provide items need umbrella activity need number take good without no yes bicycle city end
traffic some road take outdoor laptop after baseball keep under seen multiple high wooden positioned located wall
life boat parked surfboard tennis ensure pizza airplane only beach while children too family see player moment
clock truck show form others before against space full further get indoors just known giraffe elephant zebra bear
sheep cow bird safety event order consider should data value function example following system model result method
change own public between state world school home company country house story point problem question answer reason
made found given shown called used based written added placed covered filled dressed surrounded covering carrying
riding eating making taking waiting running jumping flying cooking reading talking smiling watching enjoying crossing
much very most less few enough every always often sometimes together apart closer further behind below above beside
inside outside middle center corner edge bottom window door floor ceiling counter shelf screen phone computer keyboard
mouse book paper picture poster letter word note page glass knife fork spoon cake bread fruit apple banana orange
carrot broccoli sandwich meal dinner breakfast lunch drink coffee wine beer shirt jacket hat helmet shoes pants dress
tie glove bag suitcase backpack handbag toy kite frisbee skis snowboard wave ocean river lake mountain hill forest
park garden path bridge station track platform airport runway sidewalk intersection lane vehicle motorcycle engine
wheel driver passenger pedestrian crowd audience team match sport court racket bat glove pitcher catcher referee
morning afternoon evening night season summer winter weather sunny cloudy rain wind shadow reflection color shape
size pattern texture style design material metal plastic stone brick concrete fabric leather modern traditional
busy calm relaxed focused happy casual formal bright dark warm cold soft hard clean dirty empty crowded quiet loud
"""
_SYLLABLES = "ar bel cor dan el far gen hol im jor kal len mar nor ol per quin ros sal tor ul van wen yor zan"
FOREIGN = {
    "es": "el la de que y en un por con para los se las una su es como más pero muy ciudad año también después",
    "fr": "le la de et un à être que pour dans ce il qui ne sur se pas plus par avec tout élève français où déjà",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine Straße über größer können",
    "ru": "и в не на я быть он с что а по это она этот к но они мы весь который из у человек время город",
    "ko": "그 이 저 것 수 등 사람 우리 때 년 한 지 대하다 오다 말 일 그렇다 위하다 때문 말하다 알다 보다 만들다",
    "ja": "の に は を た が で て と し れ さ ある いる も する から な こと として い や れる など なっ ない この",
    "zh": (
        "我们 可以 使用 一个 的 是 在 了 和 有 不 这 人 他 来 到 时 大 地 为 子 中 你 说 生 国 年 着 就 "
        "那 要 她 出 也 得 里 后 自 以 会 家 下 而 过 天 去 能 对 小 多 然 于 心 学 么 之 都 好 看 起 发 "
        "当 没 成 只 如 事 把 还 用 第 样 道 想 作 种 开 美 总 从 无 情 己 面 最 女 但 现 前 些 问题 "
        "数据 方法 系统 模型 结果 例如 因此 需要 图像 函数 时间 工作 学习 重要"
    ),
}
COMMON = list(dict.fromkeys(_COMMON.split()))  # a repeated word keeps its first, more frequent place
SYLLABLES = _SYLLABLES.split()
UNSPACED = ("zh", "ja")
COLOURS = ("white", "black", "red", "blue", "green", "brown", "gray", "yellow", "orange", "pink", "silver", "tan")
QUESTIONS = (
    "What is", "What color is", "Is there", "How many", "Where is", "Are there any", "What kind of", "Which side is",
    "Does the", "Who is", "Can you see", "What is the position of", "Is the", "What type of", "Do you think",
)  # fmt: skip
CODE = """```python
def {0}({1}, {2}=None):
    \"\"\"{5}\"\"\"
    {3} = []
    for index, {4} in enumerate({1}):
        if {4} != {2} and index % {6} == 0:
            {3}.append({{"{4}": index, "{1}": {4} + {7}}})
    return {3}


print({0}([{6}, {7}, {8}], {2}={6}))
```"""


class Dice(random.Random):
    """Draws for one file. Only `random()` is used: its stream is the same in every Python version."""

    def pick(self, items: Sequence[T]) -> T:
        """One of them, each as likely as the other."""
        return items[int(self.random() * len(items))]

    def between(self, least: int, most: int) -> int:
        """A whole number, both ends among them."""
        return least + int(self.random() * (most - least + 1))

    def join(self, items: Sequence[str], least: int, most: int, glue: str = " ") -> str:
        """So many of them (between the two), one after the other."""
        return glue.join([self.pick(items) for _ in range(self.between(least, most))])


class Text:
    """Pieces of text of every kind that the turns need.

    Attributes:
        sentences: 8 to 20 words each, by language: `en` and those of FOREIGN.
        questions: five to ten words and a question mark.
        short: answers of a word or two, as in VQA.
        phrases: two to six words, as a region's description.
        names: rare words, as in titles of books and on signs.
        boxes: four corners between 0 and 1, two decimals.
        code: Python functions in a fence.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        dice = Dice(seed)
        self.names = sorted({dice.join(SYLLABLES, 2, 4, "").capitalize() for _ in range(40_000)})
        # Zipf's law with Mandelbrot's shift; one word in 16 is rare, so that a tokenizer has work for its merges.
        weights = 1 / (np.arange(len(COMMON)) + 2.7)
        common = (COMMON[i] for i in rng.choice(len(COMMON), 300_000, p=weights / weights.sum()))

        def words(least: int, most: int) -> list[str]:
            found = [next(common) for _ in range(dice.between(least, most))]
            return [dice.pick(self.names).lower() if dice.random() < 1 / 16 else word for word in found]

        def sentence() -> str:
            found = words(8, 20)
            if len(found) > 12:
                found[len(found) // 2] += ","
            return f"{' '.join(found).capitalize()}{dice.pick('....!:')}"

        self.sentences = {"en": [sentence() for _ in range(6000)]}
        for language, listed in FOREIGN.items():
            glue, stop = ("", "。") if language in UNSPACED else (" ", ".")
            made = [dice.join(listed.split(), 8, 20, glue) for _ in range(600)]
            self.sentences[language] = [f"{text[0].upper()}{text[1:]}{stop}" for text in made]
        self.questions = [f"{dice.pick(QUESTIONS)} {' '.join(words(3, 7))}?" for _ in range(6000)]
        self.phrases = [" ".join(words(2, 6)) for _ in range(6000)]
        self.short = [" ".join(words(1, 2)).capitalize() for _ in range(600)]
        self.short += [*[c.capitalize() for c in COLOURS] * 40, *["Yes", "No"] * 500, *map(str, range(10))]
        self.boxes = [self._box(dice) for _ in range(6000)]
        self.code = [self._code(dice, " ".join(words(4, 9))) for _ in range(600)]

    def _box(self, dice: Dice) -> str:
        left, top = dice.random() * 0.7, dice.random() * 0.7
        right, bottom = left + dice.random() * (1 - left), top + dice.random() * (1 - top)
        return f"[{left:.2f}, {top:.2f}, {right:.2f}, {bottom:.2f}]"

    def _code(self, dice: Dice, comment: str) -> str:
        names = [f"{dice.pick(COMMON)}_{dice.pick(COMMON)}" for _ in range(5)]
        return CODE.format(*names, comment, *(dice.between(2, 4000) for _ in range(3)))
