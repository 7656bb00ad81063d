"""CLIP's text tower and CoOp's prompts, computed as their published code computes them.

CLIP: Radford et al., 2021, github.com/openai/CLIP. CoOp: Zhou et al., 2022,
github.com/KaiyangZhou/CoOp. Every prompt takes all 77 positions of the tower, padding
included, and nothing is shared between classes: that is what is to be timed. Weights are
random, of the published sizes, in fp32.
"""

import argparse
from collections import OrderedDict

import torch
from torch import Tensor, nn

from common import positive

CONTEXT_POSITIONS = 77
VOCABULARY = 49408
START_OF_TEXT, END_OF_TEXT = 49406, 49407
FULL_STOP, PLACEHOLDER = 269, 343
PAD = 0
LOGIT_SCALE = 100.0  # as in CLIP's released checkpoints


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    def __init__(self, width: int, heads: int, mask: Tensor):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(
            c_fc=nn.Linear(width, 4 * width),
            gelu=QuickGELU(),
            c_proj=nn.Linear(4 * width, width),
        ))  # fmt: skip
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=self.mask)[0]
        return x + self.mlp(self.ln_2(x))


class TextTower(nn.Module):
    """CLIP's causal text transformer, from token embeddings on, frozen."""

    def __init__(self, width: int, layers: int, heads: int, embedding: int):
        super().__init__()
        mask = torch.full((CONTEXT_POSITIONS, CONTEXT_POSITIONS), float("-inf")).triu(1)
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(CONTEXT_POSITIONS, width))
        self.transformer = nn.Sequential(*(ResidualAttentionBlock(width, heads, mask) for _ in range(layers)))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embedding))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.requires_grad_(False)
        self.eval()

    def forward(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """Text features [K, embedding] of prompts [K, 77, width]; `tokens` says where each ends."""
        x = embedded + self.positional_embedding
        x = x.permute(1, 0, 2)  # batch, position, width -> position, batch, width
        x = self.transformer(x)
        x = x.permute(1, 0, 2)
        x = self.ln_final(x)
        # The end of the text has the largest id.
        return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.text_projection


def name_length(class_index: int) -> int:
    """Tokens in the name of a class: 1 to 3, by the rule that both sides of the benchmark follow."""
    return 1 + (class_index % 3 == 0) + (class_index % 7 == 0)


class Prompts(nn.Module):
    """CoOp's learned context with the embeddings of the class names around it."""

    def __init__(self, tower: TextTower, classes: int, context_length: int, position: str, class_specific: bool):
        super().__init__()
        self.position = position
        self.name_lengths = [name_length(index) for index in range(classes)]
        # Start of text, context, name, full stop, end of text.
        longest = context_length + max(self.name_lengths) + 3
        if longest > CONTEXT_POSITIONS:
            raise SystemExit(f"a prompt of {longest} tokens does not fit {CONTEXT_POSITIONS} positions")
        tokens = torch.full((classes, CONTEXT_POSITIONS), PAD)
        for row, length in zip(tokens, self.name_lengths):
            name = torch.randint(1000, 40000, (length,)).tolist()
            text = [START_OF_TEXT, *[PLACEHOLDER] * context_length, *name, FULL_STOP, END_OF_TEXT]
            row[: len(text)] = torch.tensor(text)
        embedded = tower.token_embedding(tokens)
        width = embedded.shape[-1]
        self.register_buffer("tokens", tokens)
        self.register_buffer("prefix", embedded[:, :1])
        self.register_buffer("suffix", embedded[:, 1 + context_length :])
        shape = [classes, context_length, width] if class_specific else [context_length, width]
        self.context = nn.Parameter(0.02 * torch.randn(shape))

    def forward(self) -> Tensor:
        return self.assemble(self.context)

    def assemble(self, context: Tensor) -> Tensor:
        """Prompts [K, 77, width] from a context of [M, width], or of [K, M, width]."""
        if context.dim() == 2:
            context = context.unsqueeze(0).expand(len(self.tokens), -1, -1)
        if self.position == "end":
            return torch.cat([self.prefix, context, self.suffix], dim=1)
        # Before the name stand all of the context, or half of it, or nothing.
        before = context.shape[1] // 2 if self.position == "middle" else 0
        prompts = []
        for index, length in enumerate(self.name_lengths):
            row = slice(index, index + 1)
            prompts.append(torch.cat([
                self.prefix[row],
                context[row, :before],
                self.suffix[row, :length],
                context[row, before:],
                self.suffix[row, length:],
            ], dim=1))  # fmt: skip
        return torch.cat(prompts, dim=0)


def normalized(features: Tensor) -> Tensor:
    return features / features.norm(dim=-1, keepdim=True)


def cosine_logits(image_features: Tensor, text_features: Tensor) -> Tensor:
    return LOGIT_SCALE * normalized(image_features) @ normalized(text_features).t()


def published_optimizer(module: nn.Module) -> torch.optim.Optimizer:
    """The SGD that CoOp and CoCoOp train with."""
    return torch.optim.SGD(module.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)


def update(optimizer: torch.optim.Optimizer, logits: Tensor, labels: Tensor) -> float:
    """The second half of a training step, after the logits."""
    loss = nn.functional.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def add_tower_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=positive, default=512, help="of the text tower")
    parser.add_argument("--layers", type=positive, default=12, help="of the text tower")
    parser.add_argument("--heads", type=positive, default=8, help="of the text tower")
    parser.add_argument("--embedding", type=positive, default=512, help="size of image and text features")


def add_prompt_options(parser: argparse.ArgumentParser, classes: int, context_length: int) -> None:
    parser.add_argument("--classes", type=positive, default=classes)
    parser.add_argument("--context-length", type=positive, default=context_length)
    parser.add_argument("--position", choices=["end", "middle", "front"], default="end", help="of the class name")
    parser.add_argument("--class-specific", action="store_true", help="a context for each class")
    add_tower_options(parser)


def tower_and_prompts(options: argparse.Namespace) -> tuple[TextTower, Prompts]:
    """What `add_prompt_options` describes, after setting PyTorch's threads and seed."""
    prepare_torch(options.threads)
    tower = TextTower(options.width, options.layers, options.heads, options.embedding)
    prompts = Prompts(tower, options.classes, options.context_length, options.position, options.class_specific)
    return tower, prompts


def prepare_torch(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)


def described(options: argparse.Namespace) -> dict[str, object]:
    """The tower's and the prompts' sizes, for the line of JSON."""
    names = ["classes", "context_length", "position", "class_specific", "width", "layers", "heads", "embedding"]
    return {name: getattr(options, name) for name in names}
