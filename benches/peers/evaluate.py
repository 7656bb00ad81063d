"""Evaluation of a learned context on cached image features.

CoOp's published evaluation encodes the prompts of all classes anew for each batch of 100
images. One batch costs what every other does, so a few are timed and the rest is scaled.
"""

from math import ceil
from statistics import median

import torch

from common import arguments, positive, report, time_repeats
from prompts import add_prompt_options, cosine_logits, described, tower_and_prompts


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(repeats=1)
    add_prompt_options(parser, classes=1000, context_length=16)
    parser.add_argument("--images", type=positive, default=10000, help="images of the whole evaluation")
    parser.add_argument("--batch", type=positive, default=100, help="images in a batch")
    parser.add_argument("--batches", type=positive, default=1, help="batches in a timed repeat")
    options = parser.parse_args()

    tower, prompts = tower_and_prompts(options)
    batches = [
        (torch.randn(options.batch, options.embedding), torch.randint(options.classes, (options.batch,)))
        for _ in range(options.batches)
    ]

    @torch.no_grad()
    def evaluate() -> None:
        correct = 0
        for image_features, labels in batches:
            text_features = tower(prompts(), prompts.tokens)
            predicted = cosine_logits(image_features, text_features).argmax(dim=1)
            correct += (predicted == labels).sum().item()

    seconds = time_repeats(evaluate, options.repeats, options.warm_ups)
    seconds_per_batch = median(seconds) / options.batches
    all_batches = ceil(options.images / options.batch)
    report(
        seconds,
        options.threads,
        measured="evaluate",
        images=options.images,
        batch=options.batch,
        batches=options.batches,
        seconds_per_batch=seconds_per_batch,
        scaled_seconds=seconds_per_batch * all_batches,
        scaled_to_batches=all_batches,
        **described(options),
    )


if __name__ == "__main__":
    main()
