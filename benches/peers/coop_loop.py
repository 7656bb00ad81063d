"""A step of CoOp's training loop on pictures, with towers of RN50's size.

CoOp (Zhou et al., 2022) runs the frozen image tower over the augmented pictures of each
batch, then the text tower over the prompts of all classes. The pictures lie ready as
pixels: reading, decoding and augmenting them is not part of the time.
"""

import open_clip
import torch

from common import arguments, positive, report, time_repeats
from prompts import add_prompt_options, cosine_logits, described, published_optimizer, tower_and_prompts, update

PIXELS = 224


def main() -> None:
    parser = arguments(__doc__)
    add_prompt_options(parser, classes=100, context_length=16)
    parser.set_defaults(embedding=1024)
    parser.add_argument("--model", default="RN50", help="whose image tower, by open_clip's name")
    parser.add_argument("--batch", type=positive, default=32, help="pictures in a step")
    options = parser.parse_args()

    tower, prompts = tower_and_prompts(options)
    image_tower = open_clip.create_model(options.model).visual.eval().requires_grad_(False)
    pictures = torch.randn(options.batch, 3, PIXELS, PIXELS)
    labels = torch.randint(options.classes, (options.batch,))
    optimizer = published_optimizer(prompts)

    def step() -> None:
        # Nothing in it requires a gradient, so PyTorch keeps none of its activations.
        image_features = image_tower(pictures)
        text_features = tower(prompts(), prompts.tokens)
        update(optimizer, cosine_logits(image_features, text_features), labels)

    seconds = time_repeats(step, options.repeats, options.warm_ups)
    report(
        seconds,
        options.threads,
        measured="coop_loop",
        left_out="reading, decoding and augmenting the pictures",
        open_clip=open_clip.__version__,
        model=options.model,
        batch=options.batch,
        **described(options),
    )


if __name__ == "__main__":
    main()
