#!/usr/bin/env python3
"""Writes split.json: which names and which style pre-training never sees.

    python3 split.py SOURCES > split.json

SOURCES is the folder that fetch.py fills. The committed split.json is what counts; this script says how
it came about. Python 3.11 or newer, standard library only; the order is drawn from SHA-256, so that no
version of Python changes it.
"""

import hashlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

SEED = "contextune-icons-1"
STYLES = ["noto", "twemoji", "fluent-flat", "emojione", "fxemoji", "fluent-3d"]
HELD_OUT_STYLE = "fluent-3d"
RETRIEVAL_NAMES = 200
HELD_OUT = {"train": 5, "val": 1, "test": 6}  # concepts per class; each comes in four to six styles
DEMO_SHOTS = 16

# Class name -> (emojibase subgroups, labels that are in the subgroup but not of the class).
CLASSES = {
    "mammal": (["animal-mammal"], ["pig nose", "paw prints", "unicorn"]),
    "bird": (["animal-bird"], ["feather", "wing"]),
    "plant or flower": (
        ["plant-flower", "plant-other"],
        ["rosette", "empty nest", "nest with eggs", "leaf fluttering in wind"],
    ),
    "fruit": (["food-fruit"], ["tomato", "olive"]),
    "vegetable": (["food-vegetable"], []),
    "savoury food": (["food-prepared", "food-asian"], ["salt", "moon cake", "dango", "fortune cookie", "takeout box"]),
    "building": (
        ["place-building", "place-religious"],
        ["building construction", "brick", "rock", "wood"],
    ),
    "road or rail vehicle": (
        ["transport-ground"],
        ["station", "bus stop", "motorway", "railway track", "oil drum", "fuel pump", "wheel", "police car light",
         "horizontal traffic light", "vertical traffic light", "stop sign", "construction", "roller skate",
         "manual wheelchair", "motorized wheelchair"],
    ),
    "sky or weather": (
        ["sky-weather"],
        ["thermometer", "closed umbrella", "umbrella", "umbrella with rain drops", "umbrella on ground", "fire"],
    ),
    "clothing": (
        ["clothing"],
        ["folding hand fan", "purse", "handbag", "clutch bag", "shopping bags", "backpack", "hair pick",
         "prayer beads", "lipstick", "ring", "gem stone"],
    ),
    "sports equipment": (["sport"], []),
    "music or sound": (["musical-instrument", "music", "sound"], []),
    "electronic device": (
        ["phone", "computer", "light-video"],
        ["electric plug", "abacus", "film frames", "clapper board", "magnifying glass tilted left",
         "magnifying glass tilted right", "candle", "red paper lantern", "diya lamp"],
    ),
    "paper or office item": (["book-paper", "writing", "office"], ["wastebasket", "label"]),
    "tool": (["tool"], []),
    "household item": (["household"], []),
    "happy face": (["face-smiling", "face-affection", "face-tongue"], ["smiling face with tear"]),
    "unhappy face": (["face-concerned", "face-unwell"], []),
    "hand gesture": (
        ["hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands"], []),
    "person at work": (
        ["person-role"],
        ["person with crown", "prince", "princess", "person wearing turban", "man wearing turban",
         "woman wearing turban", "person with skullcap", "woman with headscarf", "person in tuxedo", "man in tuxedo",
         "woman in tuxedo", "person with veil", "man with veil", "woman with veil", "pregnant woman", "pregnant man",
         "pregnant person", "breast-feeding", "woman feeding baby", "man feeding baby", "person feeding baby",
         "ninja"],
    ),
}

# Another grouping of the same pictures, coarser, for a task of another difficulty.
COARSE = {
    "animal": ["mammal", "bird"],
    "plant": ["plant or flower", "fruit", "vegetable"],
    "food": ["savoury food"],
    "place or vehicle": ["building", "road or rail vehicle"],
    "sky or weather": ["sky or weather"],
    "thing to wear": ["clothing"],
    "leisure": ["sports equipment", "music or sound"],
    "thing for work or home": ["electronic device", "paper or office item", "tool", "household item"],
    "face or hand": ["happy face", "unhappy face", "hand gesture"],
    "person": ["person at work"],
}

# Never held out: what such a sign looks like does not follow from any other picture.
ARBITRARY = {
    "country-flag", "subdivision-flag", "flag", "keycap", "alphanum", "geometric", "zodiac", "punctuation", "math",
    "gender", "currency", "time", "family", "av-symbol", "other-symbol",
}

# Pictures that differ in a detail are relatives, like man and woman: all in pre-training or none.
FAMILIES = [
    (r"^(oncoming )?(bus|police car|taxi|automobile)$", r"\2"),
    (r"^(monkey|dog|cat|tiger|horse|cow|pig|mouse|rabbit|dragon)( face)?$", r"\1"),
    (r"\bcats?\b", "cat"),
    (r"\b(dog|poodle)$", "dog"),
    (r"-evil monkey$", "monkey"),
    (r"\bcamel$", "camel"),
    (r"^(polar )?bear$", "bear"),
    (r"^(water buffalo|ox)$", "ox"),
    (r"^(ram|ewe)$", "sheep"),
    (r"\bchick$", "chick"),
    (r"\bwhale$", "whale"),
    (r"\b(mouse|rat)$", "mouse"),
    (r"(o’clock|-thirty)$", "clock"),
    (r"^(pink|orange|red|yellow|green|light blue|blue|purple|brown|black|grey|white) heart$", "coloured heart"),
    (r"\b(circle|square|diamond)\b", "geometric"),
    (r"\bmoon( face)?$", "moon"),
    (r"^(sun( with face)?|sun behind .*)$", "sun"),
    (r"^(cloud( .*)?)$", "cloud"),
    (r"\bumbrella\b", "umbrella"),
    (r"^snowman", "snowman"),
    (r"\bspeaker\b", "speaker"),
    (r"^musical notes?$", "musical note"),
    (r"^bell( with slash)?$", "bell"),
    (r"^(studio )?microphone$", "microphone"),
    (r"\bmailbox\b", "mailbox"),
    (r"^(green|blue|orange|closed) book$", "closed book"),
    (r"^(notebook.*|ledger)$", "notebook"),
    (r"\bbanknote$", "banknote"),
    (r"^magnifying glass", "magnifying glass"),
    (r"^hourglass", "hourglass"),
    (r"^globe showing", "globe"),
    (r"^mobile phone", "mobile phone"),
    (r"^telephone", "telephone"),
    (r"^camera", "camera"),
    (r"\bcalendar$", "calendar"),
    (r"^(open )?file folder$", "file folder"),
    (r"^(un)?locked", "lock"),
    (r"\bkey$", "key"),
    (r"\bpushpin$", "pushpin"),
    (r"paperclips?$", "paperclip"),
    (r"^chart (in|de)creasing", "chart"),
    (r"\bbattery$", "battery"),
    (r"^(optical disk|dvd)$", "disc"),
    (r"^backhand index|^index pointing|^middle finger", "pointing finger"),
    (r"wards( pushing)? hand$|^palm (up|down) hand$", "flat hand"),
    (r"^raised (back of )?hand$|^hand with fingers splayed$", "raised hand"),
    (r"^thumbs", "thumbs"),
    (r"\bfist$", "fist"),
    (r"beer mugs?$", "beer mug"),
    (r"^(high-speed|bullet) train$", "fast train"),
    (r"^(tram|tram car|light rail|train|metro|railway car|trolleybus|minibus|monorail)$", "train"),
    (r"^motor(cycle| scooter)$", "motorcycle"),
    (r"^(house|house with garden|houses)$", "house"),
    (r"post office$", "post office"),
    (r"^(love )?hotel$", "hotel"),
    (r"^(Japanese )?castle$", "castle"),
    (r"^(base|soft)ball$", "baseball"),
    (r" football$", "football"),
    (r"hockey$", "hockey"),
    (r"^(closed )?(man|woman)’s ", "clothes of man or woman"),
    (r"^(red|green) apple$", "apple"),
    (r"^(tangerine|lemon|lime)$", "citrus"),
    (r"^(evergreen|deciduous|leafless) tree$", "tree"),
    (r"^(shamrock|four leaf clover)$", "clover"),
    (r"^(maple|fallen) leaf$", "leaf"),
    (r"^(wilted flower|rose)$", "rose"),
    (r"^(white flower|blossom|cherry blossom)$", "blossom"),
    (r"^(brown )?mushroom$", "mushroom"),
    (r"^(soft |shaved )?ice( cream)?$", "ice cream"),
    (r"^(birthday cake|shortcake|cupcake)$", "cake"),
    (r"^(glasses|sunglasses|goggles)$", "glasses"),
    (r"^(hammer|pick|hammer and pick|hammer and wrench|wrench)$", "hammer, pick, wrench"),
    (r"^(broken chain|chains|link)$", "chain"),
    (r"helmet$", "helmet"),
    (r"medal$", "medal"),
    (r"^(prince|princess|person with crown)$", "royal"),
    (r"Claus$", "Claus"),
    (r"^pregnant ", "pregnant"),
    (r"(feeding baby|breast-feeding)$", "feeding"),
    (r"^(ballet dancer|woman dancing|man dancing)$", "dancer"),
    (r"^(baby|child|boy|girl|person|man|woman|older person|old man|old woman)$", "person"),
    (r"^(family|kiss|couple with heart)\b", r"\1"),
    (r"holding hands$", "holding hands"),
    (r"^busts? in silhouette$", "bust"),
    (r"^pouting face$|^(enraged|angry) face", "angry face"),
    (r"face with horns$", "face with horns"),
    (r"^grinning face|^beaming face|^grinning squinting", "grinning face"),
    (r"^kissing face", "kissing face"),
    (r"^frowning face|^slightly frowning", "frowning face"),
    (r"^skull", "skull"),
]


def relatives_key(label, code):
    """A key that all relatives share: by family, else by code point without gender, hair-free person and direction."""
    for pattern, key in FAMILIES:
        found = re.search(pattern, label)
        if found:
            return found.expand(key)
    points = [p for p in code.split("-") if p not in {"200d", "2640", "2642", "27a1", "fe0f"}]
    points = ["1f9d1" if p in {"1f468", "1f469"} else p for p in points]
    return "-".join(points)


def readable(label):
    """The label as one would write it in a sentence: no colons, quotes or typographic apostrophes."""
    label = label.replace("’", "'").replace("“", "").replace("”", "")
    label = re.sub(r"^flag: ", "flag of ", label)
    label = re.sub(r"^keycap: ", "keycap ", label)
    label = re.sub(r"^(family|kiss|couple with heart): ", r"\1 of ", label)
    label = re.sub(r"^(person|man|woman): (bald)$", r"\2 \1", label)
    label = re.sub(r"^(person|man|woman): (beard)$", r"\1 with a \2", label)
    label = re.sub(r"^(person|man|woman): ", r"\1 with ", label)
    label = label.replace(": facing right", " facing right")
    assert ":" not in label, label
    return label


def draw(text):
    """A number that stands for `text` in the seeded order."""
    return hashlib.sha256(f"{SEED}:{text}".encode()).hexdigest()


def main():
    sources = Path(sys.argv[1])
    emojibase = sources / "emojibase-data"
    emoji = json.loads((emojibase / "en/data.json").read_text())
    subgroups = json.loads((emojibase / "meta/groups.json").read_text())["subgroups"]

    def code_of(hexcode):
        return hexcode.lower().replace("-fe0f", "")

    covered = set.intersection(
        *({code_of(c) for c in json.loads((sources / style / "chars.json").read_text())}
          for style in ("noto", "twemoji", "fluent-flat")),
        {code_of(path.stem) for path in (sources / "fluent-3d/assets").glob("*.webp")},
    )
    three_d = {code_of(path.stem) for path in (sources / "fluent-3d/assets").glob("*.webp")}

    concepts, by_label = {}, {}
    for entry in sorted((e for e in emoji if e.get("group") not in (None, 2)), key=lambda e: e["order"]):
        code, label = code_of(entry["hexcode"]), entry["label"]
        concepts[code] = {
            "code": code,
            "name": readable(label),
            "subgroup": subgroups[str(entry["subgroup"])],
            "relatives": relatives_key(label, code),
            "role": "pretrain",
        }
        by_label[label] = code
    names = [c["name"] for c in concepts.values()]
    assert len(set(n.lower() for n in names)) == len(names), "two concepts with one name"
    families = defaultdict(list)
    for concept in concepts.values():
        families[concept["relatives"]].append(concept["code"])

    def alone_first(code):
        # Holding out one of a family takes the whole family from pre-training: prefer names without relatives.
        return (len(families[concepts[code]["relatives"]]), draw(code))

    def hold_out(code, role):
        """One relative takes the role, the others leave every split."""
        for relative in families[concepts[code]["relatives"]]:
            assert concepts[relative]["role"] == "pretrain", relative
            concepts[relative]["role"] = "unused"
        concepts[code]["role"] = role

    def one_per_family(codes):
        seen, kept = set(), []
        for code in codes:
            if concepts[code]["relatives"] not in seen:
                seen.add(concepts[code]["relatives"])
                kept.append(code)
        return kept

    members, classes = {}, []
    for name, (groups, excluded) in CLASSES.items():
        excluded = {by_label[label] for label in excluded}
        members[name] = [c for c in concepts if concepts[c]["subgroup"] in groups and c not in excluded]
    class_of = {code: name for name, codes in members.items() for code in codes}
    for name, codes in members.items():
        # A family that reaches into another class or is large stays in pre-training.
        free = one_per_family(
            c for c in sorted(codes, key=alone_first)
            if c in covered and len(families[concepts[c]["relatives"]]) <= 6
            and all(class_of.get(r, name) == name for r in families[concepts[c]["relatives"]]))
        count = sum(HELD_OUT.values())
        chosen = iter(sorted(free[:count], key=draw))
        assert len(free) >= count, (name, len(free), len(codes))
        roles = {role: [next(chosen) for _ in range(n)] for role, n in HELD_OUT.items()}
        for code in roles["train"] + roles["val"]:
            hold_out(code, "validation")
        for code in roles["test"]:
            hold_out(code, "retrieval")
        classes.append({"name": name, **roles})

    # The rest of the 200 names, spread over the subgroups that no class uses.
    used = {group for groups, _ in CLASSES.values() for group in groups}
    extra = defaultdict(list)
    for code in sorted(concepts, key=alone_first):
        concept = concepts[code]
        if (concept["subgroup"] not in used | ARBITRARY and code in covered and concept["role"] == "pretrain"
                and len(families[concept["relatives"]]) <= 6
                and not any(r in class_of for r in families[concept["relatives"]])):
            extra[concept["subgroup"]].append(code)
    rounds = 0
    while sum(c["role"] == "retrieval" for c in concepts.values()) < RETRIEVAL_NAMES:
        for group in sorted(extra, key=draw):
            left = one_per_family(c for c in extra[group] if concepts[c]["role"] == "pretrain")
            if left and sum(c["role"] == "retrieval" for c in concepts.values()) < RETRIEVAL_NAMES:
                hold_out(left[0], "retrieval")
        rounds += 1
        assert rounds < 20

    demo = []
    for entry in classes:
        # All pictures are of the held-out style. Test names are new to the model; names that it knows in other styles
        # serve as shots, and held-out ones only where those are too few.
        taken = {concepts[c]["relatives"] for role in HELD_OUT for c in entry[role]}
        known = [c for c in sorted(members[entry["name"]], key=draw)
                 if c in three_d and concepts[c]["role"] == "pretrain" and concepts[c]["relatives"] not in taken]
        first = one_per_family(known)
        train = (first + [c for c in known if c not in first])[:DEMO_SHOTS]
        missing = DEMO_SHOTS - len(train)
        if missing <= len(entry["train"]):
            demo.append({"name": entry["name"], "train": train + entry["train"][:missing], "val": entry["val"],
                         "test": entry["test"] + entry["train"][missing:]})

    by_name = {c["name"]: c for c in classes}
    coarse = [
        {"name": name, **{role: [c for part in parts for c in by_name[part][role]] for role in ("train", "val", "test")}}
        for name, parts in COARSE.items()
    ]
    assert sorted(p for parts in COARSE.values() for p in parts) == sorted(by_name)

    out = ["{", f' "seed": {json.dumps(SEED)},', f' "styles": {json.dumps(STYLES)},',
           f' "held_out_style": {json.dumps(HELD_OUT_STYLE)},', ' "concepts": [']
    out += [",\n".join("  " + json.dumps(c, ensure_ascii=False) for c in concepts.values()), " ],"]
    for key, groups in (("subgroups", classes), ("coarse", coarse), ("demo", demo)):
        out += [f' "{key}": [', ",\n".join("  " + json.dumps(g, ensure_ascii=False) for g in groups),
                " ]" if key == "demo" else " ],"]
    print("\n".join(out + ["}"]))

    count = defaultdict(int)
    for concept in concepts.values():
        count[concept["role"]] += 1
    print(dict(count), file=sys.stderr)
    for entry in classes:
        shown = {r: ", ".join(concepts[c]["name"] for c in entry[r]) for r in ("train", "val", "test")}
        print(f'{entry["name"]} ({len(members[entry["name"]])})', shown, file=sys.stderr)
    print("extra:", [c["name"] for c in concepts.values() if c["role"] == "retrieval" and c["code"] not in class_of],
          file=sys.stderr)
    print("demo:", [(d["name"], len(d["test"])) for d in demo], file=sys.stderr)


if __name__ == "__main__":
    main()
