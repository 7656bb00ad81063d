//! CLIP's image towers as operators: what [`crate::backbone::ImageTower`] computes, in the same order.

use super::graph::{Graph, Value};
use super::protobuf::Attribute;
use crate::backbone::{
    Activation, ImageTowerConfig, ModelConfig, ResNetConfig, VitConfig, VitFamily,
};

/// Added to the variance in layer norms and batch norms.
const EPSILON: f32 = 1e-5;

/// Normalised pixels `[B, 3, size, size]` -> image features `[B, D]`, not of unit length.
///
/// `None` for a tower that is none of CLIP's.
pub(super) fn forward(graph: &mut Graph, config: &ModelConfig, pixels: &Value) -> Option<Value> {
    match &config.image {
        ImageTowerConfig::Vit(vit) if vit.family == VitFamily::Clip => {
            Some(vision_transformer(graph, vit, config.activation, pixels))
        }
        ImageTowerConfig::ResNet(resnet) => Some(modified_resnet(graph, resnet, pixels)),
        ImageTowerConfig::Vit(_) | ImageTowerConfig::EfficientNet(_) => None,
    }
}

fn vision_transformer(
    graph: &mut Graph,
    config: &VitConfig,
    activation: Activation,
    pixels: &Value,
) -> Value {
    let width = config.width as i64;
    let patch_embedding = graph.weight("visual.conv1.weight"); // [d, 3, patch, patch]
    let strides = Attribute::integers("strides", &[config.patch_size as i64; 2]);
    let patches = graph.apply("Conv", &[pixels, &patch_embedding], &[strides]); // [B, d, rows, columns]
    let patches = graph.reshape(&patches, &[0, width, -1]); // [B, d, patches]
    let patches = graph.transpose(&patches, &[0, 2, 1]); // [B, patches, d]

    let range = [Attribute::integer("start", 0), Attribute::integer("end", 1)];
    let batch = graph.apply("Shape", &[pixels], &range); // [1], holds B
    let one_row = graph.integers(&[1, width]);
    let shape = graph.concatenate(&[&batch, &one_row], 0);
    let class_embedding = graph.weight("visual.class_embedding"); // [d]
    let class_token = graph.apply("Expand", &[&class_embedding, &shape], &[]); // [B, 1, d]

    let tokens = graph.concatenate(&[&class_token, &patches], 1); // [B, 1 + patches, d]
    let positions = graph.weight("visual.positional_embedding"); // [1 + patches, d]
    let tokens = graph.binary("Add", &tokens, &positions);
    let mut x = layer_norm(graph, "visual.ln_pre", &tokens);
    for layer in 0..config.layers {
        let name = format!("visual.transformer.resblocks.{layer}");
        x = block(graph, &name, config, activation, &x);
    }
    let class_token = graph.first(&x, 1); // [B, 1, d]
    let class_token = graph.reshape(&class_token, &[0, width]); // [B, d]
    let class_token = layer_norm(graph, "visual.ln_post", &class_token);
    let projection = graph.weight("visual.proj"); // [d, D]
    graph.binary("MatMul", &class_token, &projection)
}

/// x += attention(norm(x)); x += contract(activation(expand(norm(x)))), for x `[B, T, d]`.
fn block(
    graph: &mut Graph,
    name: &str,
    config: &VitConfig,
    activation: Activation,
    x: &Value,
) -> Value {
    let normed = layer_norm(graph, &format!("{name}.ln_1"), x);
    let weight = graph.transposed_weight(&format!("{name}.attn.in_proj_weight")); // [d, 3d]
    let bias = graph.weight(&format!("{name}.attn.in_proj_bias")); // [3d]
    let joint = graph.binary("MatMul", &normed, &weight);
    let joint = graph.binary("Add", &joint, &bias); // [B, T, 3d]
    let [query, key, value] = graph.apply_for("Split", &[&joint], &[Attribute::integer("axis", 2)]);
    let attended = attention(graph, &query, &key, &value, config.width, config.heads);
    let attended = linear(graph, &format!("{name}.attn.out_proj"), &attended);
    let x = graph.binary("Add", x, &attended);

    let normed = layer_norm(graph, &format!("{name}.ln_2"), &x);
    let hidden = linear(graph, &format!("{name}.mlp.c_fc"), &normed); // [B, T, 4d]
    let hidden = activate(graph, activation, &hidden);
    let contracted = linear(graph, &format!("{name}.mlp.c_proj"), &hidden);
    graph.binary("Add", &x, &contracted)
}

/// softmax(q·kᵀ/√c)·v in each head of width c; `query` `[B, Tq, d]`, `key` and `value` `[B, Tk, d]` -> `[B, Tq, d]`.
fn attention(
    graph: &mut Graph,
    query: &Value,
    key: &Value,
    value: &Value,
    width: usize,
    heads: usize,
) -> Value {
    let channels = width / heads;
    let mut split = |x: &Value, order: &[i64]| {
        let x = graph.reshape(x, &[0, 0, heads as i64, channels as i64]);
        graph.transpose(&x, order)
    };
    let query = split(query, &[0, 2, 1, 3]); // [B, heads, Tq, c]
    let key = split(key, &[0, 2, 3, 1]); // [B, heads, c, Tk]
    let value = split(value, &[0, 2, 1, 3]); // [B, heads, Tk, c]
    let scale = graph.number((channels as f32).sqrt());
    let query = graph.binary("Div", &query, &scale);
    let scores = graph.binary("MatMul", &query, &key); // [B, heads, Tq, Tk]
    let weights = graph.apply("Softmax", &[&scores], &[Attribute::integer("axis", -1)]);
    let attended = graph.binary("MatMul", &weights, &value); // [B, heads, Tq, c]
    let attended = graph.transpose(&attended, &[0, 2, 1, 3]);
    graph.reshape(&attended, &[0, 0, width as i64])
}

fn activate(graph: &mut Graph, activation: Activation, x: &Value) -> Value {
    match activation {
        Activation::QuickGelu => {
            let slope = graph.number(1.702);
            let steep = graph.binary("Mul", x, &slope);
            let gate = graph.apply("Sigmoid", &[&steep], &[]);
            graph.binary("Mul", x, &gate)
        }
        // u·Φ(u) with Φ(u) = (1 + erf(u/√2)) / 2
        Activation::Gelu => {
            let root = graph.number(std::f32::consts::SQRT_2);
            let one = graph.number(1.0);
            let half = graph.number(0.5);
            let scaled = graph.binary("Div", x, &root);
            let error = graph.apply("Erf", &[&scaled], &[]);
            let gate = graph.binary("Add", &error, &one);
            let gate = graph.binary("Mul", &gate, &half);
            graph.binary("Mul", x, &gate)
        }
    }
}

fn layer_norm(graph: &mut Graph, name: &str, x: &Value) -> Value {
    let weight = graph.weight(&format!("{name}.weight"));
    let bias = graph.weight(&format!("{name}.bias"));
    let attributes = [
        Attribute::integer("axis", -1),
        Attribute::float("epsilon", EPSILON),
    ];
    graph.apply("LayerNormalization", &[x, &weight, &bias], &attributes)
}

/// x·Wᵀ + b, `[.., inputs]` -> `[.., outputs]`.
fn linear(graph: &mut Graph, name: &str, x: &Value) -> Value {
    let weight = graph.transposed_weight(&format!("{name}.weight"));
    let bias = graph.weight(&format!("{name}.bias"));
    let product = graph.binary("MatMul", x, &weight);
    graph.binary("Add", &product, &bias)
}

fn modified_resnet(graph: &mut Graph, config: &ResNetConfig, pixels: &Value) -> Value {
    let x = convolution(graph, "visual.conv1", "visual.bn1", 3, 2, pixels);
    let x = graph.apply("Relu", &[&x], &[]);
    let x = convolution(graph, "visual.conv2", "visual.bn2", 3, 1, &x);
    let x = graph.apply("Relu", &[&x], &[]);
    let x = convolution(graph, "visual.conv3", "visual.bn3", 3, 1, &x);
    let x = graph.apply("Relu", &[&x], &[]);
    let mut x = halve(graph, &x); // [B, width, H/4, W/4]
    for (stage, &blocks) in config.blocks.iter().enumerate() {
        for index in 0..blocks {
            let name = format!("visual.layer{}.{index}", stage + 1);
            // Each stage begins with more channels, and all but the first with half the side.
            x = bottleneck(graph, &name, index == 0, stage > 0 && index == 0, &x);
        }
    }
    attention_pool(graph, config, &x) // from [B, 32·width, H/32, W/32]
}

fn bottleneck(graph: &mut Graph, name: &str, widens: bool, shrinks: bool, x: &Value) -> Value {
    let part = |part: &str| format!("{name}.{part}");
    let y = convolution(graph, &part("conv1"), &part("bn1"), 1, 1, x);
    let y = graph.apply("Relu", &[&y], &[]);
    let y = convolution(graph, &part("conv2"), &part("bn2"), 3, 1, &y);
    let y = graph.apply("Relu", &[&y], &[]);
    let y = if shrinks { halve(graph, &y) } else { y };
    let y = convolution(graph, &part("conv3"), &part("bn3"), 1, 1, &y);
    let shortcut = if shrinks { halve(graph, x) } else { x.clone() };
    let shortcut = match widens {
        true => convolution(
            graph,
            &part("downsample.0"),
            &part("downsample.1"),
            1,
            1,
            &shortcut,
        ),
        false => shortcut,
    };
    let sum = graph.binary("Add", &shortcut, &y);
    graph.apply("Relu", &[&sum], &[])
}

/// A convolution and the batch norm behind it, `[B, inputs, H, W]` -> `[B, outputs, H / stride, W / stride]`.
fn convolution(
    graph: &mut Graph,
    convolution: &str,
    norm: &str,
    kernel: i64,
    stride: i64,
    x: &Value,
) -> Value {
    let weight = graph.weight(&format!("{convolution}.weight")); // [outputs, inputs, kernel, kernel]
    let attributes = [
        Attribute::integers("pads", &[kernel / 2; 4]),
        Attribute::integers("strides", &[stride; 2]),
    ];
    let x = graph.apply("Conv", &[x, &weight], &attributes);
    let [scale, shift, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
        .map(|name| graph.weight(&format!("{norm}.{name}"))); // each [outputs]
    graph.apply(
        "BatchNormalization",
        &[&x, &scale, &shift, &mean, &variance],
        &[Attribute::float("epsilon", EPSILON)],
    )
}

/// `[B, C, H, W]` -> `[B, C, H/2, W/2]`, the mean of each 2×2 square.
fn halve(graph: &mut Graph, x: &Value) -> Value {
    let attributes = [
        Attribute::integers("kernel_shape", &[2, 2]),
        Attribute::integers("strides", &[2, 2]),
    ];
    graph.apply("AveragePool", &[x], &attributes)
}

/// One attention step in which the mean of all positions asks every position, `[B, C, H, W]` -> `[B, D]`.
fn attention_pool(graph: &mut Graph, config: &ResNetConfig, x: &Value) -> Value {
    let width = config.width * 32;
    let positions = graph.reshape(x, &[0, width as i64, -1]); // [B, C, HW]
    let positions = graph.transpose(&positions, &[0, 2, 1]); // [B, HW, C]
    let mean = graph.apply(
        "ReduceMean",
        &[&positions],
        &[Attribute::integers("axes", &[1])],
    ); // [B, 1, C]
    let tokens = graph.concatenate(&[&mean, &positions], 1); // [B, 1 + HW, C]
    let embedding = graph.weight("visual.attnpool.positional_embedding"); // [1 + HW, C]
    let tokens = graph.binary("Add", &tokens, &embedding);
    let query = graph.first(&tokens, 1); // [B, 1, C]
    let query = linear(graph, "visual.attnpool.q_proj", &query);
    let key = linear(graph, "visual.attnpool.k_proj", &tokens);
    let value = linear(graph, "visual.attnpool.v_proj", &tokens);
    let attended = attention(graph, &query, &key, &value, width, config.heads); // [B, 1, C]
    let attended = graph.reshape(&attended, &[0, width as i64]); // [B, C]
    linear(graph, "visual.attnpool.c_proj", &attended)
}
