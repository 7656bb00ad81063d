"""Load prompts that Contextune wrote for Dassl into PyTorch modules, and run them.

    python check_dassl.py MODEL.safetensors TOKENIZER.json CASE_DIR...

MODEL.safetensors has a CLIP model under OpenAI's names, TOKENIZER.json its tokenizer. Each
CASE_DIR has prompt_learner/, as exported, and expected.safetensors: the learned tensors
under their names, `image_features` and the `logits` that they must give; in the metadata
`classnames` (JSON) and `position`.

Each CASE_DIR gets what PyTorch writes when it saves the prompt again: half_legacy.pth.tar
and bfloat16.pth.tar.
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

TOLERANCE = 1e-4


class TextEncoder(nn.Module):
    """CLIP's text tower on embedded prompts, in double precision."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights
        self.layers = sum(name.endswith("ln_1.weight") and not name.startswith("visual.") for name in weights)

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def linear(self, name, x):
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def forward(self, prompts, end):
        """Prompts [K, T, d] and the place of each end token -> features [K, D]."""
        x = prompts + self.weights["positional_embedding"]
        heads = x.shape[-1] // 64
        for layer in range(self.layers):
            block = f"transformer.resblocks.{layer}"
            in_projection = [self.weights[f"{block}.attn.in_proj_{part}"] for part in ("weight", "bias")]
            joint = F.linear(self.norm(f"{block}.ln_1", x), *in_projection)
            query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in joint.chunk(3, dim=-1))
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.linear(f"{block}.attn.out_proj", attended.transpose(1, 2).flatten(2))
            hidden = self.linear(f"{block}.mlp.c_fc", self.norm(f"{block}.ln_2", x))
            x = x + self.linear(f"{block}.mlp.c_proj", hidden * torch.sigmoid(1.702 * hidden))
        x = self.norm("ln_final", x)[torch.arange(len(x)), end]
        return x @ self.weights["text_projection"]


class PromptLearner(nn.Module):
    """Parameters and buffers under the names of the official code (trainers/coop.py, cocoop.py)."""

    def __init__(self, embedded, name_lengths, position, context_shape, meta_net_shape):
        super().__init__()
        length = context_shape[-2]
        self.ctx = nn.Parameter(torch.zeros(context_shape, dtype=torch.float64))
        self.register_buffer("token_prefix", embedded[:, :1])
        self.register_buffer("token_suffix", embedded[:, 1 + length :])
        self.name_lengths, self.position, self.length = name_lengths, position, length
        if meta_net_shape is not None:
            hidden, features = meta_net_shape
            layers = OrderedDict(
                linear1=nn.Linear(features, hidden), relu=nn.ReLU(), linear2=nn.Linear(hidden, context_shape[-1])
            )
            self.meta_net = nn.Sequential(layers).double()

    def forward(self, image=None):
        """The prompts of all classes, embedded, [K, T, d]; with CoCoOp's network for an image feature [D] of unit length."""
        shared = self.ctx if image is None else self.ctx + self.meta_net(image)
        before = {"end": self.length, "middle": self.length // 2, "front": 0}[self.position]
        prompts = []
        for index, name_length in enumerate(self.name_lengths):
            context = shared if shared.dim() == 2 else shared[index]
            name, rest = self.token_suffix[index].split([name_length, len(self.token_suffix[index]) - name_length])
            prompts.append(torch.cat([self.token_prefix[index], context[:before], name, context[before:], rest]))
        return torch.stack(prompts)


def check(case, weights, tokenizer):
    with safe_open(case / "expected.safetensors", "pt") as file:
        expected = {name: file.get_tensor(name).double() for name in file.keys()}
        metadata = file.metadata()
    newest = (case / "prompt_learner" / "checkpoint").read_text().strip()
    checkpoint = torch.load(case / "prompt_learner" / newest, weights_only=True)
    assert newest == f"model.pth.tar-{checkpoint['epoch']}", newest
    state = checkpoint["state_dict"]
    mapped = torch.load(case / "prompt_learner" / newest, weights_only=True, mmap=True)["state_dict"]
    for name, tensor in mapped.items():
        assert tensor.data_ptr() % 64 == 0 and torch.equal(tensor, state[name]), (case, name)

    # The prompts as the official code builds them: X for each context vector.
    vocabulary, context_length = len(weights["token_embedding.weight"]), len(weights["positional_embedding"])
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    names = json.loads(metadata["classnames"])
    length = expected["ctx"].shape[-2]
    tokens = torch.zeros(len(names), context_length, dtype=torch.long)
    for row, name in zip(tokens, names):
        ids = [vocabulary - 2, *encode(" ".join(["X"] * length) + f" {name}."), vocabulary - 1]
        row[: len(ids)] = torch.tensor(ids)
    meta_net = expected.get("meta_net.linear1.weight")
    learner = PromptLearner(
        weights["token_embedding.weight"][tokens],
        [len(encode(name)) for name in names],
        metadata["position"],
        expected["ctx"].shape,
        None if meta_net is None else meta_net.shape,
    )
    buffers = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    outcome = learner.load_state_dict(state, strict=False)
    assert not outcome.missing_keys and not outcome.unexpected_keys, (case, outcome)
    for name, buffer in learner.named_buffers():
        assert torch.equal(buffer, buffers[name]), (case, name)
    for name, parameter in learner.named_parameters():
        assert torch.equal(parameter, expected[name]), (case, name)

    images = F.normalize(expected["image_features"])
    text_encoder, end = TextEncoder(weights), tokens.argmax(dim=-1)
    encode_prompts = lambda *image: F.normalize(text_encoder(learner(*image), end))
    with torch.no_grad():
        if meta_net is None:
            cosine = images @ encode_prompts().T
        else:
            cosine = torch.stack([encode_prompts(image) @ image for image in images])
        logits = weights["logit_scale"].exp() * cosine
    error = (expected["logits"] - logits).norm() / logits.norm()
    assert error <= TOLERANCE, f"{case}: the logits are off by {error:.1e}"
    save_again(case, learner)


def save_again(case, learner):
    """In the precisions and containers that runs on GPUs and older versions leave."""
    for precision, name, zip_archive in [
        (torch.float16, "half_legacy", False),
        (torch.bfloat16, "bfloat16", True),
    ]:
        # DataParallel puts "module." in front.
        state = OrderedDict((f"module.{key}", value.to(precision)) for key, value in learner.state_dict().items())
        contents = {"state_dict": state, "epoch": 50, "optimizer": None, "scheduler": None, "val_result": 61.5}
        torch.save(contents, case / f"{name}.pth.tar", _use_new_zipfile_serialization=zip_archive)


def main():
    model, tokenizer, *cases = sys.argv[1:]
    with safe_open(model, "pt") as file:
        weights = {name: file.get_tensor(name).double() for name in file.keys()}
    for case in cases:
        check(Path(case), weights, Tokenizer.from_file(tokenizer))


if __name__ == "__main__":
    main()
