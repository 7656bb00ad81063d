"""A zero-shot classifier of ImageNet's class names in many templates, built by open_clip.

open_clip's `build_zero_shot_classifier` encodes every class name in every template (80 by
OpenAI for ImageNet), 77 tokens each, and averages. Tokenization is part of the time.
"""

from statistics import median

import open_clip

from common import arguments, positive, report, time_repeats
from prompts import prepare_torch


def main() -> None:
    all_templates, all_classes = open_clip.OPENAI_IMAGENET_TEMPLATES, open_clip.IMAGENET_CLASSNAMES
    parser = arguments(__doc__)
    parser.set_defaults(repeats=1)
    parser.add_argument("--model", default="ViT-B-32", help="by open_clip's name, with random weights")
    parser.add_argument("--classes", type=positive, default=100, help="the first ones of ImageNet")
    parser.add_argument("--templates", type=positive, default=80, help="the first ones of OpenAI's")
    parser.add_argument("--classes-per-batch", type=positive, default=10)
    parser.add_argument("--scale-to", type=positive, help="also report the time scaled to so many classes")
    options = parser.parse_args()
    if options.templates > len(all_templates) or options.classes > len(all_classes):
        parser.error(f"there are {len(all_templates)} templates and {len(all_classes)} classes")
    templates, classes = all_templates[: options.templates], all_classes[: options.classes]

    prepare_torch(options.threads)
    model = open_clip.create_model(options.model).eval()
    tokenizer = open_clip.get_tokenizer(options.model)

    def build(names: list[str]) -> None:
        open_clip.build_zero_shot_classifier(
            model, tokenizer, names, templates, num_classes_per_batch=options.classes_per_batch
        )

    # One class is enough to warm up; a full build would take minutes.
    time_repeats(lambda: build(classes[:1]), repeats=options.warm_ups, warm_ups=0)
    seconds = time_repeats(lambda: build(classes), options.repeats, warm_ups=0)
    scaling = None
    if options.scale_to is not None:
        factor = options.scale_to / options.classes
        scaling = {
            "from_classes": options.classes,
            "to_classes": options.scale_to,
            "factor": factor,
            "scaled_seconds": factor * median(seconds),
        }
    report(
        seconds,
        options.threads,
        measured="classifier",
        open_clip=open_clip.__version__,
        model=options.model,
        classes=options.classes,
        templates=options.templates,
        classes_per_batch=options.classes_per_batch,
        scaling=scaling,
    )


if __name__ == "__main__":
    main()
