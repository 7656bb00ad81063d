"""A step of the published training loop of visual prompting (Bahng et al., 2022): a border of pixels on CLIP.

As hjbahng/visual_prompting runs it, without mixed precision, which a processor does not have: every
step tokenizes and encodes the texts of all classes, with gradients, and CLIP's own weights
keep theirs because nothing freezes them. Pictures lie ready as pixels.
"""

import open_clip
import torch
import torch.nn.functional as F

from common import arguments, positive, report, time_repeats

PIXELS = 224


class Padding(torch.nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        inside = PIXELS - 2 * size
        self.up = torch.nn.Parameter(torch.randn(1, 3, size, PIXELS))
        self.down = torch.nn.Parameter(torch.randn(1, 3, size, PIXELS))
        self.left = torch.nn.Parameter(torch.randn(1, 3, inside, size))
        self.right = torch.nn.Parameter(torch.randn(1, 3, inside, size))
        self.register_buffer("inside", torch.zeros(1, 3, inside, inside))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        middle = torch.cat([self.left, self.inside, self.right], dim=3)
        prompt = torch.cat([self.up, middle, self.down], dim=2)
        return pictures + torch.cat(len(pictures) * [prompt])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="ViT-B-32", help="by open_clip's name, with random weights")
    parser.add_argument("--size", type=positive, default=30, help="width of the border in pixels")
    parser.add_argument("--classes", type=positive, default=100)
    parser.add_argument("--batch", type=positive, default=32, help="pictures in a step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    model = open_clip.create_model(options.model).eval()
    tokenizer = open_clip.get_tokenizer(options.model)
    prompter = Padding(options.size)
    optimizer = torch.optim.SGD(prompter.parameters(), lr=40, momentum=0.9)
    texts = [f"This is a photo of a thing number {number}" for number in range(options.classes)]
    pictures = torch.randn(options.batch, 3, PIXELS, PIXELS)
    labels = torch.randint(options.classes, (options.batch,))

    def step() -> None:
        optimizer.zero_grad()
        tokens = tokenizer(texts)
        images = F.normalize(model.encode_image(prompter(pictures)), dim=-1)
        words = F.normalize(model.encode_text(tokens), dim=-1)
        F.cross_entropy(model.logit_scale.exp() * images @ words.T, labels).backward()
        optimizer.step()

    seconds = time_repeats(step, options.repeats, options.warm_ups)
    report(
        seconds,
        options.threads,
        measured="pixel_step",
        open_clip=open_clip.__version__,
        model=options.model,
        size=options.size,
        classes=options.classes,
        batch=options.batch,
    )


if __name__ == "__main__":
    main()
