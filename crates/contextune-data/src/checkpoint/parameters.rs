//! What every weight is called here: OpenAI's names, whatever the file says.

use std::path::Path;

use super::error::{Error, Result};
use crate::architecture::{
    EfficientNetConfig, ImageTowerConfig, InvertedResidual, ModelConfig, ResNetConfig,
    TextTowerConfig, VitConfig, VitFamily,
};

/// Returns name and shape of every weight of a model, sorted by name.
pub(super) fn parameters(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = Vec::new();
    if let Some(text) = &config.text {
        text_parameters(&mut list, text, config.embedding_width);
    }
    if let Some(classes) = config.pretrained_classes {
        linear(&mut list, "head", config.embedding_width, classes);
    }
    match &config.image {
        ImageTowerConfig::Vit(vit) => vit_parameters(&mut list, vit, config.embedding_width),
        ImageTowerConfig::ResNet(resnet) => {
            resnet_parameters(&mut list, resnet, config.embedding_width);
        }
        ImageTowerConfig::EfficientNet(net) => efficientnet_parameters(&mut list, net),
    }
    list.sort();
    list
}

type ParameterList = Vec<(String, Vec<usize>)>;

fn text_parameters(list: &mut ParameterList, text: &TextTowerConfig, embedding_width: usize) {
    list.extend([
        ("logit_scale".to_owned(), vec![]),
        (
            "positional_embedding".to_owned(),
            vec![text.context_length, text.width],
        ),
        (
            "text_projection".to_owned(),
            vec![text.width, embedding_width],
        ),
        (
            "token_embedding.weight".to_owned(),
            vec![text.vocabulary_size, text.width],
        ),
    ]);
    affine(list, "ln_final", text.width);
    blocks(
        list,
        "transformer",
        text.layers,
        (text.width, 4 * text.width),
        false,
    );
}

fn vit_parameters(list: &mut ParameterList, vit: &VitConfig, embedding_width: usize) {
    let (width, patch) = (vit.width, vit.patch_size);
    let positions = vit.leading_tokens() + vit.position_grid().pow(2);
    list.extend([
        ("visual.class_embedding".to_owned(), vec![width]),
        (
            "visual.conv1.weight".to_owned(),
            vec![width, 3, patch, patch],
        ),
        (
            "visual.positional_embedding".to_owned(),
            vec![positions, width],
        ),
    ]);
    affine(list, "visual.ln_post", width);
    let mut layer_scale = false;
    match &vit.family {
        VitFamily::Clip => {
            affine(list, "visual.ln_pre", width);
            list.push(("visual.proj".to_owned(), vec![width, embedding_width]));
        }
        VitFamily::Plain(plain) => {
            list.push(("visual.conv1.bias".to_owned(), vec![width]));
            if plain.leading_tokens == 2 {
                list.push(("visual.distillation_embedding".to_owned(), vec![width]));
            }
            layer_scale = plain.layer_scale;
        }
    }
    let widths = (width, vit.mlp_width());
    blocks(list, "visual.transformer", vit.layers, widths, layer_scale);
}

fn blocks(
    list: &mut ParameterList,
    tower: &str,
    layers: usize,
    (width, mlp_width): (usize, usize),
    layer_scale: bool,
) {
    for layer in 0..layers {
        let block = format!("{tower}.resblocks.{layer}");
        list.extend([
            (
                format!("{block}.attn.in_proj_weight"),
                vec![3 * width, width],
            ),
            (format!("{block}.attn.in_proj_bias"), vec![3 * width]),
        ]);
        linear(list, &format!("{block}.attn.out_proj"), width, width);
        affine(list, &format!("{block}.ln_1"), width);
        affine(list, &format!("{block}.ln_2"), width);
        linear(list, &format!("{block}.mlp.c_fc"), width, mlp_width);
        linear(list, &format!("{block}.mlp.c_proj"), mlp_width, width);
        if layer_scale {
            list.push((format!("{block}.ls_1.gamma"), vec![width]));
            list.push((format!("{block}.ls_2.gamma"), vec![width]));
        }
    }
}

fn resnet_parameters(list: &mut ParameterList, resnet: &ResNetConfig, embedding_width: usize) {
    let width = resnet.width;
    let stem = [(3, width / 2), (width / 2, width / 2), (width / 2, width)];
    for (index, (input, output)) in stem.into_iter().enumerate() {
        let number = index + 1;
        convolution(list, &format!("visual.conv{number}"), input, output, 3);
        batch_norm(list, &format!("visual.bn{number}"), output);
    }
    let mut input = width;
    for (stage, &count) in resnet.blocks.iter().enumerate() {
        let inner = width << stage;
        for index in 0..count {
            let block = format!("visual.layer{}.{index}", stage + 1);
            let convolutions = [(input, inner, 1), (inner, inner, 3), (inner, 4 * inner, 1)];
            for (index, (input, output, kernel)) in convolutions.into_iter().enumerate() {
                let number = index + 1;
                convolution(
                    list,
                    &format!("{block}.conv{number}"),
                    input,
                    output,
                    kernel,
                );
                batch_norm(list, &format!("{block}.bn{number}"), output);
            }
            if index == 0 {
                convolution(list, &format!("{block}.downsample.0"), input, 4 * inner, 1);
                batch_norm(list, &format!("{block}.downsample.1"), 4 * inner);
            }
            input = 4 * inner;
        }
    }
    let pooled = 32 * width;
    let cells = (resnet.image_size / 32).pow(2);
    list.push((
        "visual.attnpool.positional_embedding".to_owned(),
        vec![cells + 1, pooled],
    ));
    for projection in ["q_proj", "k_proj", "v_proj"] {
        linear(
            list,
            &format!("visual.attnpool.{projection}"),
            pooled,
            pooled,
        );
    }
    linear(list, "visual.attnpool.c_proj", pooled, embedding_width);
}

/// Lists the names of the official PyTorch port, below `visual.`.
fn efficientnet_parameters(list: &mut ParameterList, net: &EfficientNetConfig) {
    let mut layer = |name: &str, norm: &str, shape: [usize; 4]| {
        list.push((format!("visual.{name}.weight"), shape.to_vec()));
        batch_norm(list, &format!("visual.{norm}"), shape[0]);
    };
    layer("_conv_stem", "_bn0", [net.stem, 3, 3, 3]);
    for (number, block) in net.blocks.iter().enumerate() {
        let InvertedResidual {
            kernel,
            inputs,
            hidden,
            outputs,
            ..
        } = *block;
        let part = |part: &str| format!("_blocks.{number}.{part}");
        if hidden != inputs {
            layer(&part("_expand_conv"), &part("_bn0"), [hidden, inputs, 1, 1]);
        }
        let shape = [hidden, 1, kernel, kernel];
        layer(&part("_depthwise_conv"), &part("_bn1"), shape);
        let shape = [outputs, hidden, 1, 1];
        layer(&part("_project_conv"), &part("_bn2"), shape);
    }
    let last = net.blocks.last().map_or(net.stem, |block| block.outputs);
    layer("_conv_head", "_bn1", [net.head, last, 1, 1]);
}

fn linear(list: &mut ParameterList, name: &str, input: usize, output: usize) {
    list.push((format!("{name}.weight"), vec![output, input]));
    list.push((format!("{name}.bias"), vec![output]));
}

fn affine(list: &mut ParameterList, name: &str, width: usize) {
    list.push((format!("{name}.weight"), vec![width]));
    list.push((format!("{name}.bias"), vec![width]));
}

fn batch_norm(list: &mut ParameterList, name: &str, width: usize) {
    affine(list, name, width);
    list.push((format!("{name}.running_mean"), vec![width]));
    list.push((format!("{name}.running_var"), vec![width]));
}

fn convolution(list: &mut ParameterList, name: &str, input: usize, output: usize, kernel: usize) {
    list.push((
        format!("{name}.weight"),
        vec![output, input, kernel, kernel],
    ));
}

/// Refuses sizes that no model has, before anything is computed from them; `path` is where they were read.
pub fn check_config(path: &Path, config: &ModelConfig) -> Result<()> {
    let within = |what: &str, value: usize, most: usize| {
        if (1..=most).contains(&value) {
            Ok(())
        } else {
            Err(Error::config(
                path,
                format!("the model's {what} is {value}; 1 to {most} is expected"),
            ))
        }
    };
    let divides = |part: &str, divisor: usize, whole: &str, value: usize| {
        if divisor > 0 && value.is_multiple_of(divisor) {
            Ok(())
        } else {
            Err(Error::config(
                path,
                format!("the model's {whole} {value} is not a multiple of its {part} {divisor}"),
            ))
        }
    };
    let equals = |what: &str, value: usize, other: &str, expected: usize| {
        if value == expected {
            Ok(())
        } else {
            Err(Error::config(
                path,
                format!("the model's {what} {value} is not its {other} {expected}"),
            ))
        }
    };
    within("embedding width", config.embedding_width, 1 << 16)?;
    if let Some(text) = &config.text {
        within("context length", text.context_length, 1 << 16)?;
        within("vocabulary size", text.vocabulary_size, 1 << 24)?;
        within("number of text layers", text.layers, 1 << 10)?;
        within("text width", text.width, 1 << 16)?;
        divides("number of text heads", text.heads, "text width", text.width)?;
    }
    if let Some(classes) = config.pretrained_classes {
        within("number of classes", classes, 1 << 20)?;
    }
    within("image size", config.image.image_size(), 1 << 13)?;
    match &config.image {
        ImageTowerConfig::Vit(vit) => {
            within("number of image layers", vit.layers, 1 << 10)?;
            within("image width", vit.width, 1 << 16)?;
            divides("number of image heads", vit.heads, "image width", vit.width)?;
            within("MLP width", vit.mlp_width(), 1 << 18)?;
            divides("patch size", vit.patch_size, "image size", vit.image_size)?;
            within("leading tokens", vit.leading_tokens(), 2)?;
            within("grid of positions", vit.position_grid(), 1 << 13)?;
            let VitFamily::Plain(plain) = &vit.family else {
                return Ok(());
            };
            equals(
                "feature width",
                config.embedding_width,
                "image width",
                vit.width,
            )?;
            match plain.epsilon.is_finite() && plain.epsilon > 0.0 {
                true => Ok(()),
                false => Err(Error::config(
                    path,
                    format!("its norms cannot add {} to a variance", plain.epsilon),
                )),
            }
        }
        ImageTowerConfig::ResNet(resnet) => {
            for blocks in resnet.blocks {
                within("number of blocks in a stage", blocks, 1 << 10)?;
            }
            within("ResNet width", resnet.width, 1 << 12)?;
            divides("halved stem", 2, "ResNet width", resnet.width)?;
            let pooled = 32 * resnet.width;
            divides("number of heads", resnet.heads, "pooled width", pooled)?;
            divides("total stride", 32, "image size", resnet.image_size)
        }
        ImageTowerConfig::EfficientNet(net) => {
            within("number of blocks", net.blocks.len(), 1 << 10)?;
            within("stem", net.stem, 1 << 16)?;
            let mut channels = net.stem;
            for block in &net.blocks {
                within("kernel", block.kernel, 31)?;
                within("stride", block.stride, 31)?;
                within("number of channels", block.hidden, 1 << 16)?;
                within("number of channels", block.outputs, 1 << 16)?;
                equals(
                    "channels into a block",
                    block.inputs,
                    "those before it",
                    channels,
                )?;
                channels = block.outputs;
            }
            equals("feature width", config.embedding_width, "head", net.head)
        }
    }
}
