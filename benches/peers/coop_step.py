"""A training step of CoOp on image features that are given.

CoOp (Zhou et al., 2022): the prompts of all classes go through the whole text tower in
every step; only the context is learned.
"""

import torch

from common import arguments, positive, report, time_repeats
from prompts import add_prompt_options, cosine_logits, described, published_optimizer, tower_and_prompts, update


def main() -> None:
    parser = arguments(__doc__)
    add_prompt_options(parser, classes=100, context_length=16)
    parser.add_argument("--batch", type=positive, default=32, help="image features in a step")
    options = parser.parse_args()

    tower, prompts = tower_and_prompts(options)
    image_features = torch.randn(options.batch, options.embedding)
    labels = torch.randint(options.classes, (options.batch,))
    optimizer = published_optimizer(prompts)

    def step() -> None:
        text_features = tower(prompts(), prompts.tokens)
        update(optimizer, cosine_logits(image_features, text_features), labels)

    seconds = time_repeats(step, options.repeats, options.warm_ups)
    report(seconds, options.threads, measured="coop_step", batch=options.batch, **described(options))


if __name__ == "__main__":
    main()
