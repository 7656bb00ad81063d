"""A step of VPT-deep in plain PyTorch: a frozen ViT-B/16, prompts in front of every block, a linear head.

As KMnP/vpt computes it (Jia et al., 2022): the prompts' outputs of a block are overwritten by
the next block's prompts, so every block works on class token, prompts and patches. The blocks
are timm's (fused attention included), with random weights; SGD with momentum.
"""

import timm
import torch
import torch.nn.functional as F

from common import arguments, positive, report, time_repeats

PIXELS = 224


class PromptedTransformer(torch.nn.Module):
    def __init__(self, tower: torch.nn.Module, prompts: int, classes: int) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(False)
        self.prompts = torch.nn.Parameter(torch.empty(len(tower.blocks), prompts, tower.embed_dim).uniform_(-0.06, 0.06))
        self.head = torch.nn.Linear(tower.embed_dim, classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = self.tower.norm_pre(self.tower._pos_embed(self.tower.patch_embed(pictures)))
        for layer, block in enumerate(self.tower.blocks):
            prompts = self.prompts[layer].expand(len(x), -1, -1)
            patches = x[:, 1:] if layer == 0 else x[:, 1 + prompts.shape[1] :]
            x = block(torch.cat((x[:, :1], prompts, patches), dim=1))
        return self.head(self.tower.norm(x)[:, 0])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--prompts", type=positive, default=100, help="prompt tokens in front of each block")
    parser.add_argument("--classes", type=positive, default=100)
    parser.add_argument("--layers", type=positive, default=12)
    parser.add_argument("--batch", type=positive, default=32, help="pictures in a step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    tower = timm.create_model("vit_base_patch16_224", depth=options.layers, num_classes=0).eval()
    model = PromptedTransformer(tower, options.prompts, options.classes)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.1, momentum=0.9, weight_decay=1e-3)
    pictures = torch.randn(options.batch, 3, PIXELS, PIXELS)
    labels = torch.randint(options.classes, (options.batch,))

    def step() -> None:
        loss = F.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    seconds = time_repeats(step, options.repeats, options.warm_ups)
    report(
        seconds,
        options.threads,
        measured="vpt_step",
        timm=timm.__version__,
        prompts=options.prompts,
        layers=options.layers,
        batch=options.batch,
    )


if __name__ == "__main__":
    main()
