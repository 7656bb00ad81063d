"""Golden values for CoOp's neighbours: what the official formulas come to on a tiny CLIP.

    python make_neighbours.py ../crates/contextune/tests/golden

Run by hand, with the packages of requirements.txt and requirements-neighbours.txt (torch
2.15.0, tokenizers 0.23.3, safetensors 0.8.0, numpy 2.4.6, scikit-learn 1.9.1, scipy 1.17.1):

    python=$(tests-full-size/setup.sh requirements-neighbours.txt)

Everything is computed in double precision and stored in single. The formulas are those of

    KgCoOp          htyao89/KgCoOp, KgCoOp/trainers/kgcoop.py
    ProGrad         BeierZhu/Prompt-align, ProGrad.public/trainers/prograd.py and
                    Dassl.ProGrad.pytorch/dassl/engine/trainer.py
    CLIP-Adapter    gaopengcuhk/CLIP-Adapter, clip_adapter.py
    Tip-Adapter(-F) gaopengcuhk/Tip-Adapter, main.py and utils.py
    TaskRes         geekyutao/TaskRes, trainers/taskres.py
    linear probe    KaiyangZhou/CoOp, lpclip/linear_probe.py

and, for the two baselines without published code, the description of Zhou et al. 2022, §4.2:
a transformation layer or a bias on the text tower's output, trained as CoOp.

Each neighbours_METHOD.safetensors has the inputs (`image_features`, `labels`), what learning
begins with (`param.NAME`) and what stays (`constant.NAME`), the first step's `logits`, `loss`
and `grad.NAME`, the `losses` of all steps, and where they end (`final.NAME`). One step is one
epoch of one full batch; `lrs` has the rates.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from check_dassl import TextEncoder
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

NAMES = ["dog", "cat", "golden retriever", "hot air balloon", "pizza"]
TEMPLATES = ["a photo of a {}.", "itap of a {}."]
STEPS = 6
CONTEXT = 4


class Words:
    """The text tower on token ids."""

    def __init__(self, golden):
        with safe_open(golden / "clip_vit.safetensors", "pt") as file:
            self.weights = {name: file.get_tensor(name).double() for name in file.keys()}
        self.tokenizer = Tokenizer.from_file(str(golden / "hf_clip" / "tokenizer.json"))
        self.encoder = TextEncoder(self.weights)
        self.scale = self.weights["logit_scale"].exp()
        self.width = self.weights["text_projection"].shape[1]

    def tokens(self, texts):
        vocabulary, length = len(self.weights["token_embedding.weight"]), len(self.weights["positional_embedding"])
        tokens = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(tokens, texts):
            ids = [vocabulary - 2, *self.tokenizer.encode(text, add_special_tokens=False).ids, vocabulary - 1]
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def encode_text(self, texts):
        tokens = self.tokens(texts)
        return self.encoder(self.weights["token_embedding.weight"][tokens], tokens.argmax(dim=-1))

    def with_context(self, ctx):
        """Features of "[ctx] NAME." for every name, [K, D]."""
        tokens = self.tokens([" ".join(["X"] * len(ctx)) + f" {name}." for name in NAMES])
        embedded = self.weights["token_embedding.weight"][tokens]
        context = ctx.expand(len(NAMES), -1, -1)
        prompts = torch.cat([embedded[:, :1], context, embedded[:, 1 + len(ctx) :]], dim=1)
        return self.encoder(prompts, tokens.argmax(dim=-1))

    def ensemble(self, templates):
        """Tip-Adapter's clip_classifier: normalised, averaged, normalised again, [K, D]."""
        rows = [F.normalize(self.encode_text([t.format(name) for t in templates])).mean(0) for name in NAMES]
        return F.normalize(torch.stack(rows))

    def mean(self, templates):
        """TaskRes' base: the mean of features as they come out of the tower, [K, D]."""
        return torch.stack([self.encode_text([t.format(name) for t in templates]).mean(0) for name in NAMES])

    def logits(self, images, texts):
        return self.scale * F.normalize(images) @ F.normalize(texts).T


def pictures(words, labels, towards, random, spread=1.0):
    """Features near the words of the classes `towards`, each of its own length."""
    near = words[towards] + spread * random.normal(words.shape[1], len(labels)).T / math.sqrt(words.shape[1])
    return near * (0.5 + 9.0 * torch.rand(len(labels), 1, generator=random.generator, dtype=torch.float64))


class Random:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def single(tensor):
    """As the golden file stores it: what is computed begins there."""
    return tensor.float().double()


def coop_rates():
    """Dassl's schedule: a constant warm-up epoch, then the cosine over all epochs."""
    return [1e-5] + [0.001 * (1 + math.cos(math.pi * (epoch - 1) / STEPS)) for epoch in range(1, STEPS)]


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.002, momentum=0.9, weight_decay=5e-4)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.002, betas=(0.9, 0.999), weight_decay=5e-4)


def backward(loss, _parameters):
    loss.backward()


def learn(parameters, compute, labels, optimizer, rates=None, loss_of=None, backward=backward):
    """All steps; `compute` gives the logits. The tensors of the golden file."""
    parameters = {name: nn.Parameter(single(value)) for name, value in parameters.items()}
    tensors = {f"param.{name}": value.detach().clone() for name, value in parameters.items()}
    optimizer = optimizer(parameters.values())
    schedule = None if rates else torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses, used = [], []
    for step in range(STEPS):
        if rates:
            optimizer.param_groups[0]["lr"] = rates[step]
        used.append(optimizer.param_groups[0]["lr"])
        logits = compute(parameters)
        loss = F.cross_entropy(logits, labels) if loss_of is None else loss_of(parameters, logits)
        optimizer.zero_grad()
        backward(loss, parameters)
        losses.append(loss[0].item() if isinstance(loss, tuple) else loss.item())
        if step == 0:
            tensors["logits"] = logits
            tensors |= {f"grad.{name}": value.grad.clone() for name, value in parameters.items()}
        optimizer.step()
        if schedule:
            schedule.step()
    for name, value in parameters.items():
        initial, final = tensors[f"param.{name}"], value.detach()
        # Single precision must not decide what a comparison of the moved part says.
        assert 2**-24 * initial.norm() <= 3e-5 * (final - initial).norm(), f"{name} hardly moves"
        tensors[f"final.{name}"] = final
    tensors["loss"], tensors["losses"] = torch.tensor(losses[:1]), torch.tensor(losses)
    tensors["lrs"] = torch.tensor(used)
    return tensors


def write(golden, name, tensors, metadata):
    stored = {}
    for key, value in tensors.items():
        value = torch.as_tensor(value).detach().contiguous()
        stored[key] = value.float() if value.is_floating_point() else value
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    save_file(stored, golden / f"neighbours_{name}.safetensors", {"classnames": json.dumps(NAMES), **text})
    print(name, {key: value for key, value in text.items()})


def kgcoop(golden, words):
    random = Random(1)
    hand_written, weight = words.ensemble(TEMPLATES[:1]), 8.0
    labels = torch.tensor([0, 1, 2, 3, 4, 1, 3, 0])
    images = single(pictures(hand_written, labels, labels, random))

    def loss_of(parameters, logits):
        texts = F.normalize(words.with_context(parameters["ctx"]))
        score = 1.0 - nn.CosineSimilarity(dim=1, eps=1e-7)(texts, hand_written).mean()
        return F.cross_entropy(logits, labels) + weight * score

    compute = lambda parameters: words.logits(images, words.with_context(parameters["ctx"]))
    initial = {"ctx": 0.02 * random.normal(CONTEXT, words.weights["ln_final.weight"].shape[0])}
    tensors = learn(initial, compute, labels, sgd, coop_rates(), loss_of)
    tensors |= {"image_features": images, "labels": labels, "hand_written": hand_written}
    write(golden, "kgcoop", tensors, {"templates": TEMPLATES[0], "weight": weight})


def prograd(golden, words):
    """Opposed: pictures look like another class than their own, and labels pull a context that is near the words away
    from them."""
    hand_written = words.ensemble(TEMPLATES[:1])
    labels = torch.tensor([0, 1, 2, 3, 4, 1, 3, 0])
    start = words.tokenizer.encode(TEMPLATES[0].split(" {}")[0], add_special_tokens=False).ids
    start = words.weights["token_embedding.weight"][start]
    for name, weight, opposed in [
        ("prograd", 1.0, True),
        ("prograd_weaker", 0.8, True),
        ("prograd_unopposed", 1.0, False),
    ]:
        random = Random(2)
        towards = (labels + 1) % len(NAMES) if opposed else labels
        images = single(pictures(hand_written, labels, towards, random, spread=4.0))
        known = F.softmax(words.logits(images, hand_written), dim=-1)
        cosines = []

        def loss_of(_parameters, logits):
            divergence = -(known * F.log_softmax(logits, -1)).sum(1).mean()
            return F.cross_entropy(logits, labels), divergence

        def projected(losses, parameters):
            entropy, divergence = losses
            divergence.backward(retain_graph=True)
            against = {name: value.grad.clone() for name, value in parameters.items()}
            for value in parameters.values():
                value.grad = None
            entropy.backward()
            for name, value in parameters.items():
                direction = against[name] / torch.linalg.norm(against[name])
                along = torch.dot(value.grad.flatten(), direction.flatten())
                cosines.append((along / torch.linalg.norm(value.grad)).item())
                if along < 0:
                    value.grad = value.grad - weight * along * direction

        compute = lambda parameters: words.logits(images, words.with_context(parameters["ctx"]))
        initial = {"ctx": start + 0.1 * random.normal(*start.shape)}
        if not opposed:
            initial = {"ctx": 0.02 * random.normal(*start.shape)}
        tensors = learn(initial, compute, labels, sgd, coop_rates(), loss_of, projected)
        # Far enough from a right angle that no rounding decides.
        assert all(cosine < -0.1 if opposed else cosine > 0.1 for cosine in cosines), cosines
        tensors |= {"image_features": images, "labels": labels, "hand_written": hand_written}
        metadata = {
            "templates": TEMPLATES[0],
            "weight": weight,
            "projected": [cosine < 0 for cosine in cosines],
            "cosines": cosines,
        }
        write(golden, name, tensors, metadata)


def clip_adapter(golden, words):
    random = Random(3)
    hand_written, ratio = words.ensemble(TEMPLATES), 0.2
    labels = torch.tensor([0, 1, 2, 3, 4, 1, 3, 0])
    images = single(pictures(hand_written, labels, (labels + 1) % len(NAMES), random, 4.0))
    hidden = words.width // 4
    uniform = lambda *shape: (2 * torch.rand(*shape, generator=random.generator, dtype=torch.float64) - 1)
    initial = {
        "fc.0.weight": uniform(hidden, words.width) / math.sqrt(words.width),
        "fc.2.weight": uniform(words.width, hidden) / math.sqrt(hidden),
    }

    def compute(parameters):
        adapted = F.relu(F.relu(images @ parameters["fc.0.weight"].T) @ parameters["fc.2.weight"].T)
        return words.logits(ratio * adapted + (1 - ratio) * images, hand_written)

    tensors = learn(initial, compute, labels, sgd, coop_rates())
    tensors |= {"image_features": images, "labels": labels, "hand_written": hand_written}
    write(golden, "clip_adapter", tensors, {"templates": "\n".join(TEMPLATES), "ratio": ratio})


def taskres(golden, words):
    random = Random(4)
    base = words.mean(TEMPLATES)
    labels = torch.tensor([0, 1, 2, 3, 4, 1, 3, 0])
    images = single(pictures(F.normalize(base), labels, (labels + 1) % len(NAMES), random, 4.0))
    for scale, name in [(0.5, "taskres"), (1.0, "taskres_full")]:
        compute = lambda parameters: words.logits(images, base + scale * parameters["text_feature_residuals"])
        initial = {"text_feature_residuals": torch.zeros_like(base)}
        tensors = learn(initial, compute, labels, adam, coop_rates())
        tensors |= {"image_features": images, "labels": labels, "constant.base_text_features": base}
        write(golden, name, tensors, {"templates": "\n".join(TEMPLATES), "residual_scale": scale})


def text_tuning(golden, words):
    random = Random(5)
    base = words.mean(TEMPLATES[:1])
    labels = torch.tensor([0, 1, 2, 3, 4, 1, 3, 0])
    images = single(pictures(F.normalize(base), labels, (labels + 1) % len(NAMES), random, 4.0))
    inputs = {"image_features": images, "labels": labels, "hand_written": base}
    transform = lambda parameters: words.logits(images, base @ parameters["text_transform.weight"].T)
    initial = {"text_transform.weight": torch.eye(words.width, dtype=torch.float64)}
    tensors = learn(initial, transform, labels, sgd, coop_rates())
    del tensors["param.text_transform.weight"]  # the identity
    write(golden, "text_transform", tensors | inputs, {"templates": TEMPLATES[0]})
    bias = lambda parameters: words.logits(images, base + parameters["text_bias"])
    initial = {"text_bias": torch.zeros(words.width, dtype=torch.float64)}
    tensors = learn(initial, bias, labels, sgd, coop_rates())
    write(golden, "text_bias", tensors | inputs, {"templates": TEMPLATES[0]})


def tip_adapter(golden, words):
    """Both versions: (alpha, beta) as given, and as searched on validation pictures."""
    random = Random(6)
    hand_written = words.ensemble(TEMPLATES)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    views = [single(pictures(hand_written, labels, (labels + labels % 2) % len(NAMES), random)) for _ in range(3)]
    images = views[0]
    keys = F.normalize(torch.stack(views).mean(0))
    values = F.one_hot(labels).double()
    val_labels = torch.arange(30) % len(NAMES)
    val_images = single(
        pictures(hand_written, val_labels, (val_labels + val_labels % 2) % len(NAMES), random, spread=1.6)
    )

    def logits(images, keys, alpha, beta):
        images = F.normalize(images)
        cached = (-1 * (beta - beta * (images @ keys.T))).exp() @ values
        return words.scale * images @ hand_written.T + cached * alpha

    def search(keys):
        grid = lambda scale, steps: [step * (scale - 0.1) / steps + 0.1 for step in range(steps)]
        best = (0, 0.0, 0.0)
        for beta in grid(7, 200):
            for alpha in grid(3, 20):
                correct = (logits(val_images, keys, alpha, beta).argmax(1) == val_labels).sum().item()
                if correct > best[0]:
                    best = (correct, alpha, beta)
        return best

    inputs = {
        "image_features": images,
        "views": torch.stack(views, dim=1),
        "labels": labels,
        "val_image_features": val_images,
        "val_labels": val_labels,
        "hand_written": hand_written,
        "constant.values": values,
    }
    given = {f"logits.{alpha}.{beta}": logits(images, keys, alpha, beta) for alpha, beta in [(1.17, 1.0), (2.5, 5.5)]}
    metadata = {"templates": "\n".join(TEMPLATES)}

    correct, alpha, beta = search(keys)
    searched = {"keys": keys, "searched_logits": logits(val_images, keys, alpha, beta)}
    result = {"correct": correct, "alpha": alpha, "beta": beta}
    write(golden, "tip_adapter", inputs | given | searched, metadata | result)

    adamw = lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, eps=1e-4)
    compute = lambda parameters: logits(images, parameters["keys"], 1.17, 1.0)
    tensors = learn({"keys": keys}, compute, labels, adamw)
    learned = tensors["final.keys"].detach()
    correct, alpha, beta = search(learned)
    searched = {"searched_logits": logits(val_images, learned, alpha, beta)}
    result = {"correct": correct, "alpha": alpha, "beta": beta}
    write(golden, "tip_adapter_f", tensors | inputs | searched, metadata | result)


def linear_probe(golden):
    """The search goes both ways before it ends; `exact` is what scikit-learn finds if it does not stop early."""
    for classes, seed, spread in [(5, 38, 3.5), (2, 23, 2.5)]:
        random, width = np.random.default_rng(seed), 12
        centres = random.normal(size=(classes, width))
        stretch = np.exp(random.normal(size=width) * 0.3)

        def sample(rows):
            labels = np.arange(rows) % classes
            features = (1.2 * centres[labels] + spread * random.normal(size=(rows, width))) * stretch
            return features.astype(np.float32).astype(np.float64), labels

        (train, train_labels), (val, val_labels), (test, test_labels) = sample(60), sample(20), sample(40)
        fit = lambda c, **more: LogisticRegression(C=c, **{"max_iter": 1000} | more).fit(train, train_labels)
        accuracy = lambda model, features, labels: float((model.predict(features) == labels).mean())
        tensors = {
            "image_features": train,
            "labels": train_labels,
            "val_image_features": val,
            "val_labels": val_labels,
            "test_image_features": test,
            "test_labels": test_labels,
        }
        strengths = [1e-2, 0.316, 1, 100]
        for c in strengths:
            tensors[f"probabilities.{c}"] = fit(c).predict_proba(test)
            tensors[f"exact.{c}"] = fit(c, tol=1e-10, max_iter=100_000).predict_proba(test)

        searched = [1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6]
        peak = searched[int(np.argmax([accuracy(fit(c), val, val_labels) for c in searched]))]
        left, right = np.log10(0.1 * peak), np.log10(10 * peak)
        for _ in range(8):
            lower, upper = fit(10**left), fit(10**right)
            if accuracy(lower, val, val_labels) < accuracy(upper, val, val_labels):
                chosen, model, left = 10**right, upper, (left + right) / 2
            else:
                chosen, model, right = 10**left, lower, (left + right) / 2
        tensors["probabilities.searched"] = model.predict_proba(test)
        tensors = {name: torch.as_tensor(value) for name, value in tensors.items()}
        metadata = {
            "strengths": strengths,
            "peak": peak,
            "chosen": float(chosen),
            "val_accuracy": accuracy(model, val, val_labels),
            "test_accuracy": accuracy(model, test, test_labels),
            "names": [f"class {index}" for index in range(classes)],
        }
        write(golden, f"linear_probe_{classes}", tensors, metadata)


def main():
    golden = Path(sys.argv[1])
    words = Words(golden)
    for method in [kgcoop, prograd, clip_adapter, taskres, text_tuning, tip_adapter]:
        method(golden, words)
    linear_probe(golden)


if __name__ == "__main__":
    main()
