"""A training step of CoCoOp on image features that are given.

CoCoOp (Zhou et al., 2022, "Conditional prompt learning"): a small network turns each
image's feature into a shift of the context, so that each image has prompts of its own;
the text tower runs over all of them, image by image.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from common import arguments, positive, report, time_repeats
from prompts import (
    LOGIT_SCALE,
    add_prompt_options,
    described,
    normalized,
    published_optimizer,
    tower_and_prompts,
    update,
)


def meta_network(embedding: int, width: int) -> nn.Module:
    return nn.Sequential(OrderedDict(
        linear1=nn.Linear(embedding, embedding // 16),
        relu=nn.ReLU(),
        linear2=nn.Linear(embedding // 16, width),
    ))  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    add_prompt_options(parser, classes=100, context_length=4)
    parser.add_argument("--batch", type=positive, default=1, help="image features in a step; published: 1")
    options = parser.parse_args()
    if options.class_specific:
        parser.error("CoCoOp has one context for all classes")
    if options.embedding < 16:
        parser.error("--embedding must be at least 16")

    tower, prompts = tower_and_prompts(options)
    network = meta_network(options.embedding, options.width)
    image_features = torch.randn(options.batch, options.embedding)
    labels = torch.randint(options.classes, (options.batch,))
    optimizer = published_optimizer(nn.ModuleList([prompts, network]))

    def logits() -> Tensor:
        images = normalized(image_features)
        contexts = prompts.context + network(images).unsqueeze(1)
        prompts_of_images = torch.stack([prompts.assemble(context) for context in contexts])
        rows = []
        for image, embedded in zip(images, prompts_of_images):
            text_features = normalized(tower(embedded, prompts.tokens))
            rows.append(LOGIT_SCALE * image @ text_features.t())
        return torch.stack(rows)

    def step() -> None:
        update(optimizer, logits(), labels)

    seconds = time_repeats(step, options.repeats, options.warm_ups)
    report(seconds, options.threads, measured="cocoop_step", batch=options.batch, **described(options))


if __name__ == "__main__":
    main()
