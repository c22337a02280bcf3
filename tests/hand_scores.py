"""A model with a known answer key, and its scores worked out from the key and its choices alone.

Nothing here comes from this project or from VLMEvalKit. The rules that decide an answer:

- Multiple choice: exact matching reads a letter that stands alone among the last four words, else the one option whose
  text is part of the answer. A judge reads what exact matching does not. "Cannot determine the answer" is read, as no
  option. MMBench counts a question only if all its rotations are right, `vanilla` only the first rotation.
- MME: exact matching reads the word yes without no, or no without yes. A subtask has 100 points for the share of right
  answers and 100 for the share of pictures with both answers right.
- TextVQA: an answer is compared with each nine of the ten people's, three that agree are enough; the mean of the ten.
- MathVista: the judge extracts a value. MM-Vet: the judge gives 0 to 1, and what is no such number counts as 0.
- A question whose own answer is missing from the table is never right.
"""

from __future__ import annotations

import ast
import csv
import io
import random
import re
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, str]
Answers = dict[str, "Answer"]
"""By index."""
Scores = dict[str, Any]

MISSING = ("", "None", "NA", "N/A", "null")
"""What a table's reader takes for nothing."""
ABILITIES = {
    "coarse_perception": "CP", "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C", "logic_reasoning": "LR", "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}  # fmt: skip
COGNITION = ("code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(number) for number, word in enumerate(WORDS)} | {"none": "0"}
BABBLE = "well, well"
DECLINED = "Cannot determine the answer"
"""Which VLMEvalKit reads as the option Z: wrong, and nobody is asked. Counted as an answer that names none."""
NO_JUDGE = "Failed to obtain answer via API."
"""What VLMEvalKit's own judge returns when its server has failed: nothing to read, so it asks again."""


@dataclass(frozen=True)
class Answer:
    """What the model says, whether that is `right`, `wrong`, `partly` or `unread`, and what a judge makes of it.

    `plain`: exact matching reads it, nobody asks the judge.
    """

    text: str
    choice: str
    plain: bool
    verdict: str
    mark: str


def read_table(path: Path) -> list[Row]:
    """A TSV as text; rows without a picture are left out, as VLMEvalKit does."""
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter="\t"))
    return [row for row in rows if row.get("image", "x")]


def says(answers: Iterable[Answer]) -> Callable[[str], str]:
    """The judge: it finds the mark of an answer in what it is asked, and knows the verdict.

    To MathVista's answers without one it extracts all that was said; whatever else has none it cannot read.
    """
    verdicts = {answer.mark: answer.verdict for answer in answers}

    def verdict(prompt: str) -> str:
        marks = re.findall("mark:([g-v]{12})", prompt)
        said = re.findall("Model respone: (.*)Extracted answer:$", prompt)
        return verdicts[marks[-1]] if marks else said[0] if said and said[0] else BABBLE

    return verdict


def answer_all(name: str, rows: list[Row], key: Mapping[str, Any], seed: int, tame: bool = False) -> Answers:
    """The model's answers. `tame`: none that a spreadsheet would spoil (empty, a formula, the text of a number)."""
    found = {}
    for row in rows:
        dice = random.Random(f"{name} {row['index']} {seed}")
        mark = "".join(dice.choice("ghijklmnopqrstuv") for _ in range(12))
        choice = dice.choices(("right", "wrong", "partly", "unread"), (70, 10, 12, 8))[0]
        found[row["index"]] = _answer(name, row, key[row["index"]], choice, f"mark:{mark}", dice, tame)
    return found


def _answer(
    name: str, row: Row, key: Mapping[str, Any], choice: str, mark: str, dice: random.Random, tame: bool
) -> Answer:
    if choice == "unread" and not tame and dice.random() < 0.4:
        return Answer("", choice, False, BABBLE, "")
    multiple = name == "MathVista_MINI" and row["question_type"] == "multi_choice"
    if name == "TextVQA_VAL":
        text = _short_answer(row, key, choice, dice, tame)
        return Answer(text, choice, True, "", "")
    if name == "MMVet":
        part, lost = f"0.{dice.randint(1, 9)}", dice.choice([BABBLE, "1.2"])
        grade = {"right": "1.0", "wrong": "0", "partly": part, "unread": lost}
        text = f"{key['wrong' if choice == 'wrong' else 'right']} ({mark})"
        return Answer(text, choice, False, grade[choice], mark[5:])
    if choice == "unread":
        confused = "yes or no, who can tell" if name == "MME" else "A or B or C or D"
        verdict = {"MME": "Unknown", "MathVista_MINI": NO_JUDGE}.get(name, dice.choice(["Z", BABBLE]))
        return Answer(f"{dice.choice(['hm', confused])}, {mark}", choice, False, verdict, mark[5:])
    if choice == "partly":  # there is no half of an option or of a number
        choice = "right"
    if name == "MathVista_MINI" and not multiple:
        value = str(key[f"{choice}_value"])
        if dice.random() < 0.6:
            return Answer(value, choice, True, value, "")
        return Answer(f"I count {value} of them, {mark}", choice, False, value, mark[5:])
    said = str(key[choice])
    if name == "MME":
        plain = [said, said.lower(), said.upper(), f"{said}.", f'"{said}"!', f"{said}, it is{' not' * (said == 'No')}"]
        judged = [f"It certainly is{' not' * (said == 'No')}, {mark}"]
    else:
        options = dict(zip("ABCDE", ast.literal_eval(row["choices"]), strict=False)) if multiple else shown(row)
        plain = [said, f"{said}.", f"({said})", f"The answer is {said}.", f"选 {said}"]
        text, spoiled = options[said], tame and (said in "EFGHIJKLMNOPQRSTUVWXYZ" or options[said].startswith("="))
        if not spoiled and sum(other.lower() in text.lower() for other in options.values()) == 1:
            plain += [text, f"{said}. {text}"] * 2
        judged = [f"答案是{said}。{mark}", f"{said} it is, as far as both of us can tell, {mark}", f"that one, {mark}"]
        if choice == "wrong":
            plain.append(DECLINED)
    if dice.random() < 0.85:
        return Answer(dice.choice(plain), choice, True, said, "")
    return Answer(dice.choice(judged), choice, False, said, mark[5:])


def shown(row: Row) -> dict[str, str]:
    """The options that are there when the table has been read."""
    return {letter: row[letter] for letter in string.ascii_uppercase if row.get(letter, "") not in MISSING}


def _short_answer(row: Row, key: Mapping[str, Any], choice: str, dice: random.Random, tame: bool) -> str:
    word = str(key["right"])
    if choice == "partly" and row["answer"]:
        return str(dice.choice([given for given in ast.literal_eval(row["answer"]) if given != word] or [word]))
    if choice == "right":
        return dice.choice([word, word.upper(), f"{word}.", f"the {word}", f'"{word}"', plain_words(word)])
    return "nothing at all" if tame or choice == "wrong" else ""


def plain_words(text: str) -> str:
    """As VQA accuracy compares: no capitals, signs, articles or full stops, numbers in digits.

    A full stop after a digit stays, as in VLMEvalKit: "7." is not "7".
    """
    text = re.sub(r'[;/\[\]"{}()=+\\_\-><@`,?!]', " ", text.lower())
    words = re.sub(r"(?<!\d)\.(?!\d)", "", text).split()
    return " ".join(NUMBERS.get(word, word) for word in words if word not in ("a", "an", "the"))


def share(values: Iterable[float]) -> float:
    """The mean, per cent."""
    found = list(values)
    return 100 * sum(found) / len(found)


def _by(groups: Iterable[tuple[str, float]]) -> Scores:
    found: dict[str, list[float]] = defaultdict(list)
    for name, value in groups:
        found[name].append(value)
    return {name: share(values) for name, values in found.items()}


def hand_scores(name: str, rows: list[Row], key: Mapping[str, Any], given: Answers, judged: bool) -> Scores:
    """All that scores.json must hold, and the scores of each question (`hits`) and unit (`outcomes`, by ability)."""
    scores = _scores(name, rows, key, given, judged)
    hits, column = scores["hits"], "task" if name == "MathVista_MINI" else "category"
    asked = [row for row in rows if row["index"] in hits]
    return {"outcomes": {row["index"]: {row.get(column, ""): hits[row["index"]]} for row in asked}} | scores


def _scores(name: str, rows: list[Row], key: Mapping[str, Any], given: Answers, judged: bool) -> Scores:
    if name == "TextVQA_VAL":
        hits = {row["index"]: _agreement(row, given[row["index"]].text) for row in rows}
        silent = sum(given[row["index"]].text == "" for row in rows)
        return {"overall": share(hits.values()), "abilities": {}, "parse_failures": silent, "hits": hits}
    if name == "MMVet":
        return _mm_vet(rows, given)
    right = {}
    for row in rows:
        answer = given[row["index"]]
        right[row["index"]] = float(answer.choice == "right" and (answer.plain or judged) and row["answer"] != "")
    if name == "MathVista_MINI":
        return _math_vista(rows, key, given, right)
    if name == "MME":
        return _mme(rows, given, right, judged)
    unread = sum(not answer.plain or answer.text == DECLINED for answer in given.values())
    if not name.startswith("MMBench"):
        lost = sum(answer.verdict == BABBLE and not answer.plain for answer in given.values()) if judged else 0
        abilities = _by((row["category"], right[row["index"]]) for row in rows)
        return {
            "overall": share(right.values()), "abilities": abilities, "parse_failures": unread, "judge_failures": lost,
            "hits": right,
        }  # fmt: skip
    return _mmbench(rows, given, right, judged) | {"parse_failures": unread}


def _mmbench(rows: list[Row], given: Answers, right: Mapping[str, float], judged: bool) -> Scores:
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(row["index"])):
        groups[int(row["index"]) % 1_000_000].append(row)
    first = {number: group[0] for number, group in groups.items()}
    whole = {number: min(right[row["index"]] for row in group) for number, group in groups.items()}
    plain = {number: right[row["index"]] for number, row in first.items()}
    lost = 0  # the judge is asked only where no rotation is wrong without it, and no longer than until one is
    told: dict[str, float | None] = {**right}  # of which rotation somebody has said whether it is right
    for group in groups.values():
        read = [row for row in group if given[row["index"]].plain]
        asked = [row for row in group if not given[row["index"]].plain and not right[row["index"]]]
        if judged and asked and all(right[row["index"]] for row in read):
            lost += given[asked[0]["index"]].verdict == BABBLE
        going = all(right[row["index"]] for row in read)
        for row in group if judged else ():
            if not given[row["index"]].plain:
                if not going and row is not group[0]:
                    told[row["index"]] = None
                going = going and bool(right[row["index"]])
    coarse = {number: ABILITIES[row["l2-category"]] for number, row in first.items()}
    return {
        "overall": share(whole.values()),
        "abilities": _by((coarse[number], whole[number]) for number in groups),
        "categories": _by((first[number]["category"], whole[number]) for number in groups),
        "vanilla": {
            "overall": share(plain.values()),
            "abilities": _by((coarse[number], plain[number]) for number in groups),
        },
        "judge_failures": lost,
        "units": len(groups),
        "outcomes": {
            first[number]["index"]: {coarse[number]: whole[number], "vanilla": plain[number]} for number in groups
        },
        "hits": told,
    }


def _mme(rows: list[Row], given: Answers, right: dict[str, float], judged: bool) -> Scores:
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        pairs[row["category"], row["image_path"]].append(right[row["index"]])
    accuracy = _by((row["category"], right[row["index"]]) for row in rows)
    plus = _by((subtask, min(pair)) for (subtask, _), pair in pairs.items())
    points = {subtask: accuracy[subtask] + plus[subtask] for subtask in accuracy}
    each = {
        f"{subtask}/{picture}": {subtask: 50 * sum(pair) + 100 * min(pair)}
        for (subtask, picture), pair in pairs.items()
    }
    cognition = sum(points[subtask] for subtask in COGNITION)
    total = sum(points.values())
    unread = sum(not answer.plain and (answer.choice == "unread" or not judged) for answer in given.values())
    return {
        "overall": total, "perception": total - cognition, "cognition": cognition, "abilities": points,
        "parse_failures": unread, "of_100": total / 28, "units": len(pairs), "hits": right,
        "outcomes": each,
    }  # fmt: skip


def _agreement(row: Row, text: str) -> float:
    """VQA accuracy: for each of the people, a third for every other one who agrees with the answer, at most 1."""
    if not row["answer"]:
        return 0.0
    people = [plain_words(given) == plain_words(text) for given in ast.literal_eval(row["answer"])]
    return sum(min(1.0, (sum(people) - one) / 3) for one in people) / len(people)


def _math_vista(rows: list[Row], key: Mapping[str, Any], given: Answers, right: dict[str, float]) -> Scores:
    # VLMEvalKit never takes a list for right, nor 3.0 for the integer 3.
    hits = {index: right[index] * (not key[index].get("never_right", False)) for index in right}
    abilities = _by((row["task"], hits[row["index"]]) for row in rows)
    abilities |= _by((skill, hits[row["index"]]) for row in rows for skill in ast.literal_eval(row["skills"]))
    lost = sum(answer.verdict == NO_JUDGE for answer in given.values())
    return {"overall": share(hits.values()), "abilities": abilities, "parse_failures": lost, "hits": hits}


def _mm_vet(rows: list[Row], given: Answers) -> Scores:
    lost = [index for index, answer in given.items() if answer.choice == "unread"]
    hits = {index: 0.0 if index in lost else float(answer.verdict) for index, answer in given.items()}
    # VLMEvalKit counts a question of one capability alone twice there.
    doubled = [(row["category"], hits[row["index"]]) for row in rows if "," not in row["category"]]
    each = [(capability, hits[row["index"]]) for row in rows for capability in row["category"].split(",")]
    return {
        "overall": share(hits.values()),
        "abilities": _by(each + doubled),
        "parse_failures": len(lost),
        "hits": hits,
    }
