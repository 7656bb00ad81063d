//! Every format of one model opens to the same model; what is no model says so.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use common::{assert_says, golden};
use contextune_data::architecture::*;
use contextune_data::checkpoint::*;
use contextune_data::image::{Filter, Resize};
use contextune_data::pickle::{Pickle, Value};
use proptest::prelude::*;
use safetensors::SafeTensors;
use tempfile::TempDir;

const QUICK: OpenOptions = OpenOptions {
    activation: Some(Activation::QuickGelu),
};

fn open_golden(name: &str) -> Checkpoint {
    open(&golden(name), OpenOptions::default()).unwrap()
}

fn error(path: &Path) -> String {
    open(path, OpenOptions::default()).unwrap_err().to_string()
}

/// The fp16 tensors of a golden safetensors file, read without the code under test.
fn golden_tensors(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(golden(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .filter(|(_, view)| view.dtype() == safetensors::Dtype::F16)
        .map(|(name, view)| {
            let values = view.data().chunks_exact(2);
            let values = values.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32());
            (name.to_owned(), (view.shape().to_vec(), values.collect()))
        })
        .collect()
}

fn assert_has(checkpoint: &Checkpoint, expected: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    let names: Vec<&str> = checkpoint.weights.names().collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>());
    for (name, (shape, values)) in expected {
        assert_eq!(checkpoint.weights.shape(name), Some(&**shape), "{name}");
        assert_eq!(checkpoint.weights.read(name).unwrap(), *values, "{name}");
    }
}

#[test]
fn every_format_of_one_model_is_the_same_model() {
    let tensors = golden_tensors("clip_vit.safetensors");
    let config = ModelConfig {
        embedding_width: 128,
        activation: Activation::QuickGelu,
        image: ImageTowerConfig::Vit(VitConfig {
            image_size: 32,
            patch_size: 8,
            width: 128,
            layers: 2,
            heads: 2,
            family: VitFamily::Clip,
        }),
        text: Some(TextTowerConfig {
            context_length: 77,
            vocabulary_size: 1024,
            width: 128,
            layers: 2,
            heads: 2,
        }),
        pretrained_classes: None,
    };
    // Pinned: prompt files that users keep name their model by it. Checked against the PyPI package `blake3`.
    let fingerprint = "177bd77bfd258cd953f193a108e7061bf32b5d57b71b052dc6d3228e602cf0fc";
    for (name, format) in [
        ("clip_vit.safetensors", Format::Safetensors),
        ("clip_vit_jit.pt", Format::TorchScript),
        ("clip_vit_openclip.pt", Format::OpenClip),
        ("hf_clip", Format::HuggingFace),
        ("hf_clip/model.safetensors", Format::HuggingFace),
    ] {
        let checkpoint = open(&golden(name), QUICK).unwrap();
        assert_eq!(checkpoint.format, format, "{name}");
        assert_eq!(checkpoint.config, config, "{name}");
        assert_eq!(checkpoint.normalization, Normalization::OPENAI, "{name}");
        assert_eq!(checkpoint.warnings, [""; 0], "{name}");
        assert_has(&checkpoint, &tensors);
        assert_eq!(checkpoint.weights.fingerprint().unwrap(), fingerprint);
    }
    let tokenizer = open_golden("hf_clip").tokenizer_file;
    assert_eq!(tokenizer, Some(golden("hf_clip/tokenizer.json")));
    assert_eq!(open_golden("clip_vit_jit.pt").tokenizer_file, None);
}

#[test]
fn resnets_open_too() {
    let tensors = golden_tensors("clip_rn.safetensors");
    let plain = open_golden("clip_rn.safetensors");
    let script = open_golden("clip_rn_jit.pt");
    assert_eq!(
        plain.config.image,
        ImageTowerConfig::ResNet(ResNetConfig {
            image_size: 64,
            width: 8,
            blocks: [1, 1, 1, 1],
            heads: 4,
        })
    );
    assert_eq!(script.config, plain.config);
    assert_has(&plain, &tensors);
    assert_has(&script, &tensors);
    let fingerprint = plain.weights.fingerprint().unwrap();
    assert_eq!(script.weights.fingerprint().unwrap(), fingerprint);
    let other = open_golden("clip_vit.safetensors");
    assert_ne!(other.weights.fingerprint().unwrap(), fingerprint);
}

#[test]
fn the_activation_is_what_the_file_says_or_the_user() {
    let activation = |name: &str| open_golden(name).config.activation;
    assert_eq!(activation("clip_vit.safetensors"), Activation::QuickGelu);
    assert_eq!(activation("clip_vit_jit.pt"), Activation::QuickGelu);
    assert_eq!(activation("hf_clip"), Activation::QuickGelu);
    let open_clip = open_golden("clip_vit_openclip.pt");
    assert_eq!(open_clip.config.activation, Activation::Gelu);
    assert_eq!(open_clip.warnings.len(), 1);
    assert_says(&open_clip.warnings[0], &["GELU", "activation quickgelu"]);

    let gelu = OpenOptions {
        activation: Some(Activation::Gelu),
    };
    for name in ["clip_vit.safetensors", "clip_vit_jit.pt", "hf_clip"] {
        let checkpoint = open(&golden(name), gelu).unwrap();
        assert_eq!(checkpoint.config.activation, Activation::Gelu, "{name}");
    }
}

// ---- Published sizes ---------------------------------------------------------------------------------------------

type Shapes = BTreeMap<String, Vec<usize>>;

/// Tensors of a CLIP text tower and a vision transformer as published, named by hand.
fn text_shapes(width: usize, layers: usize, embedding: usize) -> Shapes {
    let mut shapes = Shapes::from([
        ("positional_embedding".into(), vec![77, width]),
        ("text_projection".into(), vec![width, embedding]),
        ("logit_scale".into(), vec![]),
        ("token_embedding.weight".into(), vec![49_408, width]),
        ("ln_final.weight".into(), vec![width]),
        ("ln_final.bias".into(), vec![width]),
    ]);
    block_shapes(&mut shapes, "transformer", width, layers);
    shapes
}

fn block_shapes(shapes: &mut Shapes, tower: &str, width: usize, layers: usize) {
    for layer in 0..layers {
        for (name, shape) in [
            ("attn.in_proj_weight", vec![3 * width, width]),
            ("attn.in_proj_bias", vec![3 * width]),
            ("attn.out_proj.weight", vec![width, width]),
            ("attn.out_proj.bias", vec![width]),
            ("ln_1.weight", vec![width]),
            ("ln_1.bias", vec![width]),
            ("mlp.c_fc.weight", vec![4 * width, width]),
            ("mlp.c_fc.bias", vec![4 * width]),
            ("mlp.c_proj.weight", vec![width, 4 * width]),
            ("mlp.c_proj.bias", vec![width]),
            ("ln_2.weight", vec![width]),
            ("ln_2.bias", vec![width]),
        ] {
            shapes.insert(format!("{tower}.resblocks.{layer}.{name}"), shape);
        }
    }
}

fn vit_shapes(vit: &VitConfig, text: (usize, usize), embedding: usize) -> Shapes {
    let (width, patch) = (vit.width, vit.patch_size);
    let mut shapes = text_shapes(text.0, text.1, embedding);
    block_shapes(&mut shapes, "visual.transformer", width, vit.layers);
    let positions = (vit.image_size / patch) * (vit.image_size / patch) + 1;
    for (name, shape) in [
        ("class_embedding", vec![width]),
        ("positional_embedding", vec![positions, width]),
        ("proj", vec![width, embedding]),
        ("conv1.weight", vec![width, 3, patch, patch]),
        ("ln_pre.weight", vec![width]),
        ("ln_pre.bias", vec![width]),
        ("ln_post.weight", vec![width]),
        ("ln_post.bias", vec![width]),
    ] {
        shapes.insert(format!("visual.{name}"), shape);
    }
    shapes
}

fn resnet_shapes(resnet: &ResNetConfig, text: (usize, usize), embedding: usize) -> Shapes {
    let width = resnet.width;
    let mut shapes = text_shapes(text.0, text.1, embedding);
    let mut convolution = |name: &str, norm: &str, out: usize, input: usize, kernel: usize| {
        let shape = vec![out, input, kernel, kernel];
        shapes.insert(format!("visual.{name}.weight"), shape);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.insert(format!("visual.{norm}.{part}"), vec![out]);
        }
    };
    convolution("conv1", "bn1", width / 2, 3, 3);
    convolution("conv2", "bn2", width / 2, width / 2, 3);
    convolution("conv3", "bn3", width, width / 2, 3);
    let mut input = width;
    for stage in 1..=4 {
        let planes = width * [1, 2, 4, 8][stage - 1];
        for block in 0..resnet.blocks[stage - 1] {
            let at = |part: &str| format!("layer{stage}.{block}.{part}");
            convolution(&at("conv1"), &at("bn1"), planes, input, 1);
            convolution(&at("conv2"), &at("bn2"), planes, planes, 3);
            convolution(&at("conv3"), &at("bn3"), planes * 4, planes, 1);
            if block == 0 {
                let (name, norm) = (at("downsample.0"), at("downsample.1"));
                convolution(&name, &norm, planes * 4, input, 1);
            }
            input = planes * 4;
        }
    }
    let cells = (resnet.image_size / 32) * (resnet.image_size / 32);
    let pool = |name: &str| format!("visual.attnpool.{name}");
    shapes.insert(pool("positional_embedding"), vec![cells + 1, input]);
    for (name, out) in [
        ("q_proj", input),
        ("k_proj", input),
        ("v_proj", input),
        ("c_proj", embedding),
    ] {
        shapes.insert(pool(&format!("{name}.weight")), vec![out, input]);
        shapes.insert(pool(&format!("{name}.bias")), vec![out]);
    }
    shapes
}

/// A safetensors file of fp16 zeros that takes no room on the disk.
fn write_sparse(path: &Path, shapes: &Shapes) {
    let mut end = 0;
    let mut header = serde_json::Map::new();
    for (name, shape) in shapes {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let info =
            serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), info);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

fn vit(
    image_size: usize,
    patch_size: usize,
    width: usize,
    layers: usize,
    heads: usize,
) -> ImageTowerConfig {
    ImageTowerConfig::Vit(VitConfig {
        image_size,
        patch_size,
        width,
        layers,
        heads,
        family: VitFamily::Clip,
    })
}

fn resnet(image_size: usize, width: usize, blocks: [usize; 4], heads: usize) -> ImageTowerConfig {
    ImageTowerConfig::ResNet(ResNetConfig {
        image_size,
        width,
        blocks,
        heads,
    })
}

/// Sizes from openai/CLIP; millions of parameters from open_clip's `model_profile.csv`.
#[test]
fn every_published_size_is_recognised_by_its_shapes() {
    let folder = TempDir::new().unwrap();
    let models = [
        (
            "RN50",
            resnet(224, 64, [3, 4, 6, 3], 32),
            1024,
            (512, 8),
            "102.01",
        ),
        (
            "RN101",
            resnet(224, 64, [3, 4, 23, 3], 32),
            512,
            (512, 8),
            "119.69",
        ),
        (
            "RN50x4",
            resnet(288, 80, [4, 6, 10, 6], 40),
            640,
            (640, 10),
            "178.30",
        ),
        (
            "RN50x16",
            resnet(384, 96, [6, 8, 18, 8], 48),
            768,
            (768, 12),
            "290.98",
        ),
        (
            "RN50x64",
            resnet(448, 128, [3, 15, 36, 10], 64),
            1024,
            (1024, 16),
            "623.26",
        ),
        (
            "ViT-B/32",
            vit(224, 32, 768, 12, 12),
            512,
            (512, 8),
            "151.28",
        ),
        (
            "ViT-B/16",
            vit(224, 16, 768, 12, 12),
            512,
            (512, 8),
            "149.62",
        ),
        (
            "ViT-L/14",
            vit(224, 14, 1024, 24, 16),
            768,
            (768, 12),
            "427.62",
        ),
        (
            "ViT-L/14@336",
            vit(336, 14, 1024, 24, 16),
            768,
            (768, 12),
            "427.94",
        ),
    ];
    for (name, image, embedding, (text_width, text_heads), millions) in models {
        let text = (text_width, 12);
        let shapes = match &image {
            ImageTowerConfig::Vit(vit) => vit_shapes(vit, text, embedding),
            ImageTowerConfig::ResNet(resnet) => resnet_shapes(resnet, text, embedding),
            ImageTowerConfig::EfficientNet(_) => unreachable!("no CLIP has it"),
        };
        let path = folder.path().join("model");
        write_sparse(&path, &shapes);
        let checkpoint = open(&path, OpenOptions::default()).unwrap();
        let expected = ModelConfig {
            embedding_width: embedding,
            activation: Activation::QuickGelu,
            image,
            text: Some(TextTowerConfig {
                context_length: 77,
                vocabulary_size: 49_408,
                width: text_width,
                layers: 12,
                heads: text_heads,
            }),
            pretrained_classes: None,
        };
        assert_eq!(checkpoint.config, expected, "{name}");
        let parameters: usize = checkpoint
            .weights
            .names()
            .filter(|name| !name.contains(".running_"))
            .map(|name| {
                checkpoint
                    .weights
                    .shape(name)
                    .unwrap()
                    .iter()
                    .product::<usize>()
            })
            .sum();
        assert_eq!(
            format!("{:.2}", parameters as f64 / 1e6),
            millions,
            "{name}"
        );
    }
}

#[test]
fn wide_vision_transformers_of_open_clip_have_sixteen_heads() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ViT-H-14");
    let image = VitConfig {
        image_size: 224,
        patch_size: 14,
        width: 1280,
        layers: 32,
        heads: 16,
        family: VitFamily::Clip,
    };
    write_sparse(&path, &vit_shapes(&image, (1024, 24), 1024));
    let config = open(&path, QUICK).unwrap().config;
    assert_eq!(config.image, ImageTowerConfig::Vit(image));
    assert_eq!(config.text.unwrap().heads, 16);
}

// ---- What this library writes ------------------------------------------------------------------------------------

#[test]
fn a_written_model_opens_with_its_own_configuration() {
    let folder = TempDir::new().unwrap();
    let source = open_golden("clip_vit.safetensors");
    let mut config = source.config.clone();
    config.activation = Activation::Gelu;
    config.text.as_mut().unwrap().heads = 4;
    let normalization = Normalization {
        mean: [0.5; 3],
        std: [0.25; 3],
    };
    let metadata = BTreeMap::from([("licence".to_owned(), "MIT".to_owned())]);
    let file = |name: &str, precision| {
        let path = folder.path().join(name);
        let read = |name: &str| source.weights.read(name);
        write(&path, &config, &normalization, precision, &metadata, read).unwrap();
        path
    };
    let half = file("half", Precision::Half);
    let single = file("single", Precision::Single);
    let again = file("again", Precision::Half);
    assert_eq!(fs::read(&half).unwrap(), fs::read(&again).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);

    let bytes = fs::read(&half).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["licence"], "MIT");
    let embedded = open_embedded(Box::leak(bytes.into())).unwrap();
    for checkpoint in [
        open(&half, OpenOptions::default()).unwrap(),
        open(&single, OpenOptions::default()).unwrap(),
        embedded,
    ] {
        assert_eq!(checkpoint.config, config);
        assert_eq!(checkpoint.normalization, normalization);
        let fingerprint = checkpoint.weights.fingerprint().unwrap();
        assert_eq!(fingerprint, source.weights.fingerprint().unwrap());
    }
}

/// As a run that diverged leaves it: every weight is finite, but no answer would be a number.
#[test]
fn a_runaway_logit_scale_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    let source = open_golden("clip_vit.safetensors");
    let (config, normalization) = (&source.config, &source.normalization);
    let read = |name: &str| match name {
        "logit_scale" => Ok(vec![100.0]),
        name => source.weights.read(name),
    };
    let metadata = BTreeMap::new();
    write(
        &path,
        config,
        normalization,
        Precision::Single,
        &metadata,
        read,
    )
    .unwrap();
    let weights = open(&path, OpenOptions::default()).unwrap().weights;
    let parts = ["logit_scale is 100", "diverged"];
    assert_says(
        &weights.read("logit_scale").unwrap_err().to_string(),
        &parts,
    );
    assert_says(&weights.fingerprint().unwrap_err().to_string(), &parts);
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, "old").unwrap();
    let source = open_golden("clip_vit.safetensors");
    let attempt = |precision, value: f32| {
        let read = |name: &str| {
            let mut values = source.weights.read(name)?;
            if name == "visual.proj" {
                values[7] = value;
            }
            Ok(values)
        };
        let none = BTreeMap::new();
        write(
            &path,
            &source.config,
            &source.normalization,
            precision,
            &none,
            read,
        )
        .unwrap_err()
        .to_string()
    };
    assert_says(
        &attempt(Precision::Single, f32::NAN),
        &["visual.proj", "NaN", "element 7"],
    );
    assert_says(&attempt(Precision::Half, 7e4), &["visual.proj", "70000"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

// ---- PyTorch files -----------------------------------------------------------------------------------------------

/// Writes pickles (protocol 2) opcode by opcode, as `torch.save` does.
#[derive(Clone, Default)]
struct Assembler(Vec<u8>);

impl Assembler {
    fn start() -> Self {
        Self(vec![0x80, 2])
    }

    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        let length = (text.len() as u32).to_le_bytes();
        self.op(b"X").op(&length).op(text.as_bytes())
    }

    fn int(self, int: usize) -> Self {
        self.op(b"J").op(&(int as i32).to_le_bytes())
    }

    fn ints(self, ints: &[usize]) -> Self {
        ints.iter()
            .fold(self.op(b"("), |pickle, &int| pickle.int(int))
            .op(b"t")
    }

    fn global(self, name: &str) -> Self {
        let (module, name) = name.rsplit_once('.').unwrap();
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    fn tensor(self, tensor: &TorchTensor) -> Self {
        self.global("torch._utils._rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global(&format!("torch.{}", tensor.class))
            .text(&tensor.key)
            .text("cuda:0")
            .int(tensor.elements)
            .op(b"tQ")
            .int(tensor.offset)
            .ints(&tensor.shape)
            .ints(&tensor.strides)
            .op(b"\x89")
            .global("collections.OrderedDict")
            .op(b")RtR")
    }
}

struct TorchTensor {
    class: &'static str,
    key: String,
    /// Of the whole storage.
    elements: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|axis| shape[axis + 1..].iter().product())
        .collect()
}

/// A pickled `dict` of tensors, between opcodes that build other entries of it.
fn state_dict(tensors: &[(String, TorchTensor)]) -> Assembler {
    let start = Assembler::start().op(b"}(");
    tensors.iter().fold(start, |pickle, (name, tensor)| {
        pickle.text(name).tensor(tensor)
    })
}

fn torch_zip(path: &Path, root: &str, pickle: &[u8], storages: &[Vec<u8>]) {
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    archive
        .start_file(format!("{root}/data.pkl"), options)
        .unwrap();
    archive.write_all(pickle).unwrap();
    for (key, storage) in storages.iter().enumerate() {
        archive
            .start_file(format!("{root}/data/{key}"), options)
            .unwrap();
        archive.write_all(storage).unwrap();
    }
    archive.finish().unwrap();
}

/// The container of PyTorch before 1.6.
fn torch_legacy(path: &Path, pickle: &[u8], storages: &[(usize, Vec<u8>)]) {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(Assembler::start().int(1001).op(b".").0);
    file.extend(
        Assembler::start()
            .op(b"}(")
            .text("little_endian")
            .op(b"\x88u.")
            .0,
    );
    file.extend(pickle);
    let keys = Assembler::start().op(b"](");
    let keys = (0..storages.len()).fold(keys, |keys, key| keys.text(&key.to_string()));
    file.extend(keys.op(b"e.").0);
    for (elements, bytes) in storages {
        file.extend((*elements as u64).to_le_bytes());
        file.extend(bytes);
    }
    fs::write(path, file).unwrap();
}

/// Golden weights as fp32 storages of a state dict, each under the name that `rename` gives it.
fn golden_state(rename: impl Fn(&str) -> String) -> (Vec<(String, TorchTensor)>, Vec<Vec<u8>>) {
    golden_tensors("clip_vit.safetensors")
        .iter()
        .enumerate()
        .map(|(key, (name, (shape, values)))| {
            let tensor = TorchTensor {
                class: "FloatStorage",
                key: key.to_string(),
                elements: values.len(),
                offset: 0,
                shape: shape.clone(),
                strides: row_major(shape),
            };
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            ((rename(name), tensor), bytes)
        })
        .unzip()
}

#[test]
fn state_dicts_open_in_both_containers_and_under_every_prefix() {
    let folder = TempDir::new().unwrap();
    let expected = open_golden("clip_vit.safetensors");
    let path = folder.path().join("model");
    let check = |warnings: usize, activation| {
        let checkpoint = open(&path, OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.format, Format::OpenClip);
        assert_eq!(checkpoint.warnings.len(), warnings);
        assert_eq!(checkpoint.config.activation, activation);
        assert_eq!(checkpoint.config.text, expected.config.text);
        let fingerprint = checkpoint.weights.fingerprint().unwrap();
        assert_eq!(fingerprint, expected.weights.fingerprint().unwrap());
    };
    let custom_text = |name: &str| match name {
        "logit_scale" => name.to_owned(),
        _ if name.starts_with("visual.") => name.to_owned(),
        _ => format!("text.{name}"),
    };
    let renames: [&dyn Fn(&str) -> String; 3] = [&|name| name.to_owned(), &custom_text, &|name| {
        format!("_orig_mod.module.{}", custom_text(name))
    }];
    for rename in renames {
        let (tensors, storages) = golden_state(rename);
        torch_zip(
            &path,
            "any name",
            &state_dict(&tensors).op(b"u.").0,
            &storages,
        );
        check(1, Activation::Gelu);
    }

    let (tensors, storages) = golden_state(str::to_owned);
    let pickle = state_dict(&tensors).op(b"u.").0;
    let storages: Vec<_> = storages
        .into_iter()
        .map(|bytes| (bytes.len() / 4, bytes))
        .collect();
    torch_legacy(&path, &pickle, &storages);
    check(1, Activation::Gelu);

    // OpenAI's own state dict, saved again: three integers tell that it is theirs.
    let (mut tensors, mut storages) = golden_state(str::to_owned);
    for name in ["input_resolution", "context_length", "vocab_size"] {
        let tensor = TorchTensor {
            class: "LongStorage",
            key: storages.len().to_string(),
            elements: 1,
            offset: 0,
            shape: vec![],
            strides: vec![],
        };
        tensors.push((name.to_owned(), tensor));
        storages.push(vec![32, 0, 0, 0, 0, 0, 0, 0]);
    }
    torch_zip(
        &path,
        "archive",
        &state_dict(&tensors).op(b"u.").0,
        &storages,
    );
    check(0, Activation::QuickGelu);
}

#[test]
fn tensors_are_read_in_every_precision_and_through_their_strides() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tensors");
    let values: Vec<f32> = (0..24).map(|value| value as f32 - 3.0).collect();
    let storages: Vec<Vec<u8>> = vec![
        values
            .iter()
            .flat_map(|&v| half::f16::from_f32(v).to_le_bytes())
            .collect(),
        values
            .iter()
            .flat_map(|&v| half::bf16::from_f32(v).to_le_bytes())
            .collect(),
        values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        values
            .iter()
            .flat_map(|&v| f64::from(v).to_le_bytes())
            .collect(),
    ];
    let classes = [
        "HalfStorage",
        "BFloat16Storage",
        "FloatStorage",
        "DoubleStorage",
    ];
    let tensor = |key: usize, offset, shape: &[usize], strides: &[usize]| TorchTensor {
        class: classes[key],
        key: key.to_string(),
        elements: 24,
        offset,
        shape: shape.to_vec(),
        strides: strides.to_vec(),
    };
    let mut tensors = Vec::new();
    for key in 0..4 {
        tensors.push((format!("whole{key}"), tensor(key, 0, &[4, 6], &[6, 1])));
        tensors.push((
            format!("part{key}"),
            tensor(key, 7, &[2, 2, 2], &[1, 12, 3]),
        ));
    }
    tensors.push(("row".into(), tensor(2, 5, &[1, 3], &[99, 1])));
    tensors.push(("empty".into(), tensor(2, 24, &[0, 3], &[3, 1])));
    torch_zip(&path, "x", &state_dict(&tensors).op(b"u.").0, &storages);
    let table = TorchArchive::open(&path).unwrap().tensors().unwrap();
    for key in 0..4 {
        assert_eq!(table[&format!("whole{key}")].read().unwrap(), values);
        let expected = [7, 10, 19, 22, 8, 11, 20, 23].map(|index| values[index]);
        assert_eq!(table[&format!("part{key}")].read().unwrap(), expected);
    }
    assert_eq!(table["row"].read().unwrap(), values[5..8]);
    assert_eq!(table["empty"].read().unwrap(), [0.0; 0]);

    // One element too far; and more elements than are stored, all the same one.
    for (offset, shape, strides) in [(8, [2, 2, 2], [1, 12, 3]), (0, [1 << 20; 3], [0, 0, 0])] {
        let tensors = [("bad".to_owned(), tensor(2, offset, &shape, &strides))];
        torch_zip(&path, "x", &state_dict(&tensors).op(b"u.").0, &storages);
        let message = TorchArchive::open(&path)
            .unwrap()
            .tensors()
            .unwrap_err()
            .to_string();
        assert_says(&message, &["bad", "more elements than are stored"]);
    }
}

#[test]
fn dassl_prompts_and_few_shot_lists_are_read() {
    let archive = TorchArchive::open(&golden("dassl/prompt_learner/model.pth.tar-50")).unwrap();
    let table = archive.tensors().unwrap();
    let names: Vec<&String> = table.keys().collect();
    assert_eq!(names, ["ctx", "token_prefix", "token_suffix"]);
    assert_eq!(table["ctx"].element(), ElementType::Half);
    let bytes = fs::read(golden("dassl/expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let expected = expected.tensor("ctx").unwrap();
    assert_eq!(expected.dtype(), safetensors::Dtype::F32);
    assert_eq!(table["ctx"].shape(), expected.shape());
    let values = table["ctx"].read().unwrap();
    let values: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert_eq!(values, expected.data());
    let pickle = archive.pickle();
    let epoch = pickle.get(pickle.root(), "epoch").unwrap();
    assert_eq!(pickle.int(epoch), Some(50));

    // Written by CPython's pickle, highest protocol, from a stand-in with the name and attributes of Dassl's Datum.
    let bytes = fs::read(golden("dassl/split_fewshot/shot_1-seed_1.pkl")).unwrap();
    let pickle = Pickle::parse(&bytes).unwrap();
    assert_eq!(pickle.length(), bytes.len());
    let train = pickle.get(pickle.root(), "train").unwrap();
    let rows: Vec<String> = pickle
        .sequence(train)
        .unwrap()
        .iter()
        .map(|&datum| {
            assert_eq!(pickle.call(datum).unwrap().0.name, "Datum");
            let attributes = pickle.attributes(datum).unwrap();
            let value = |name: &str| {
                let find = attributes
                    .iter()
                    .find(|(key, _)| pickle.text(*key) == Some(name));
                find.unwrap().1
            };
            let label = pickle.int(value("_label")).unwrap();
            let text = |name| pickle.text(value(name)).unwrap();
            format!("{} {label} {}", text("_impath"), text("_classname"))
        })
        .collect();
    let folder = "/data/caltech-101/101_ObjectCategories";
    assert_eq!(
        rows,
        [
            format!("{folder}/face/image_0001.jpg 0 face"),
            format!("{folder}/leopard/image_0042.jpg 1 leopard"),
        ]
    );
}

#[test]
fn a_pickle_that_wants_to_run_code_is_only_data() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.pt");
    let trace = folder.path().join("was run");
    let attack = |pickle: Assembler| {
        let command = format!("touch '{}'", trace.display());
        pickle
            .global("posix.system")
            .op(b"(")
            .text(&command)
            .op(b"tR")
    };
    let bytes = attack(Assembler::start()).op(b".").0;
    let pickle = Pickle::parse(&bytes).unwrap();
    let (function, arguments) = pickle.call(pickle.root()).unwrap();
    assert_eq!((&*function.module, &*function.name), ("posix", "system"));
    assert_eq!(arguments.len(), 1);
    torch_zip(&path, "archive", &bytes, &[]);
    assert_says(&error(&path), &["posix.system", "not a CLIP checkpoint"]);

    let (tensors, storages) = golden_state(str::to_owned);
    let pickle = attack(state_dict(&tensors).text("extra")).op(b"u.").0;
    torch_zip(&path, "archive", &pickle, &storages);
    open(&path, QUICK).unwrap().weights.fingerprint().unwrap();
    assert!(!trace.exists());
}

#[test]
fn pickles_hold_what_cpython_pickled() {
    // pickle.dumps({"a": [1, -1, 2**40, 2**80, 1.5, True, None], "b": (b"x", {3}, "é")}, protocol=4)
    let bytes = b"\x80\x04\x95I\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xff\xff\xff\xff\x8a\x06\x00\x00\
                  \x00\x00\x00\x01\x8a\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88Ne\x8c\
                  \x01b\x94C\x01x\x94\x8f\x94(K\x03\x90\x8c\x02\xc3\xa9\x94\x87\x94u.";
    let pickle = Pickle::parse(bytes).unwrap();
    let values = |key: &str| -> Vec<Value> {
        let list = pickle.get(pickle.root(), key).unwrap();
        let items = pickle.sequence(list).unwrap().iter();
        items.map(|&item| pickle.value(item).clone()).collect()
    };
    assert_eq!(
        values("a"),
        [
            Value::Int(1),
            Value::Int(-1),
            Value::Int(1 << 40),
            Value::LongInt([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into()),
            Value::Float(1.5),
            Value::Bool(true),
            Value::None,
        ]
    );
    let values = values("b");
    assert_eq!(values[0], Value::Bytes(b"x"[..].into()));
    assert!(matches!(&values[1], Value::Set(items) if items.len() == 1));
    assert_eq!(values[2], Value::Text("é".into()));

    for (bytes, problem) in [
        (&b""[..], "ends too early"),
        (b"\x80\x02X\xff\xff\xff\x7fabc", "ends too early"),
        (b"\x80\x02K\x01u.", "a mark is missing"),
        (b"\x80\x02(K\x01(R.", "an operand is missing"),
        (b"\x80\x02h\x07.", "nothing was memoised as 7"),
        (b"\x80\x02K\x01Nb.", "BUILD on an integer"),
        (
            b"cos\nsystem\n(S'id'\ntR.",
            "opcode 0x53 is not one of protocols 2 to 5",
        ),
        (&b"N".repeat(5_000_000), "more than 4000000 opcodes"),
    ] {
        assert_says(&Pickle::parse(bytes).unwrap_err().to_string(), &[problem]);
    }
}

#[test]
fn modules_that_contain_each_other_end() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.pt");
    // A module whose two attributes are itself.
    let pickle = Assembler::start()
        .global("__torch__.Module")
        .op(b")\x81q\x00}(")
        .text("a")
        .op(b"h\x00")
        .text("b")
        .op(b"h\x00ub.");
    torch_zip(&path, "x", &pickle.0, &[]);
    assert_says(&error(&path), &["nested without end"]);
}

// ---- Folders -----------------------------------------------------------------------------------------------------

fn copy_of_hf_clip() -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in fs::read_dir(golden("hf_clip")).unwrap() {
        let file = file.unwrap();
        fs::write(
            folder.path().join(file.file_name()),
            fs::read(file.path()).unwrap(),
        )
        .unwrap();
    }
    folder
}

fn edit_json(path: &Path, edit: impl Fn(&mut serde_json::Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn hugging_face_folders_may_be_sharded_or_pickled() {
    let folder = copy_of_hf_clip();
    let path = |name: &str| folder.path().join(name);
    let expected = open_golden("hf_clip").weights.fingerprint().unwrap();
    let bytes = fs::read(path("model.safetensors")).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    fs::remove_file(path("model.safetensors")).unwrap();

    // Two safetensors files and an index.
    let shard = |name: &str| {
        if name.contains("text") {
            "one.safetensors"
        } else {
            "two.safetensors"
        }
    };
    for file in ["one.safetensors", "two.safetensors"] {
        let part = whole.iter().filter(|(name, _)| shard(name) == file);
        fs::write(path(file), safetensors::serialize(part, None).unwrap()).unwrap();
    }
    let map: BTreeMap<&str, &str> = whole.iter().map(|(name, _)| (name, shard(name))).collect();
    let index = path("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({"weight_map": map}).to_string()).unwrap();
    let checkpoint = open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(checkpoint.weights.fingerprint().unwrap(), expected);
    fs::remove_file(path("two.safetensors")).unwrap();
    assert_says(&error(folder.path()), &["two.safetensors"]);
    edit_json(&index, |json| {
        json["weight_map"]["logit_scale"] = "../two".into()
    });
    assert_says(
        &error(folder.path()),
        &["../two", "not a file beside the index"],
    );
    fs::remove_file(index).unwrap();

    // pytorch_model.bin, as of 2021: with the index buffers that later versions left out.
    let mut storages = Vec::new();
    let mut tensors = Vec::new();
    for (name, view) in whole.iter() {
        tensors.push((
            name.to_owned(),
            TorchTensor {
                class: "HalfStorage",
                key: storages.len().to_string(),
                elements: view.data().len() / 2,
                offset: 0,
                shape: view.shape().to_vec(),
                strides: row_major(view.shape()),
            },
        ));
        storages.push(view.data().to_vec());
    }
    tensors.push((
        "text_model.embeddings.position_ids".to_owned(),
        TorchTensor {
            class: "LongStorage",
            key: storages.len().to_string(),
            elements: 77,
            offset: 0,
            shape: vec![1, 77],
            strides: vec![77, 1],
        },
    ));
    storages.push(vec![0; 77 * 8]);
    torch_zip(
        &path("pytorch_model.bin"),
        "archive",
        &state_dict(&tensors).op(b"u.").0,
        &storages,
    );
    let checkpoint = open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(checkpoint.weights.fingerprint().unwrap(), expected);
}

#[test]
fn a_hugging_face_configuration_is_followed_or_refused() {
    let change = |edit: &dyn Fn(&mut serde_json::Value)| {
        let folder = copy_of_hf_clip();
        edit_json(&folder.path().join("config.json"), edit);
        open(folder.path(), OpenOptions::default()).map_err(|error| error.to_string())
    };
    let both = |key: &'static str, value: serde_json::Value| {
        move |json: &mut serde_json::Value| {
            json["text_config"][key] = value.clone();
            json["vision_config"][key] = value.clone();
        }
    };
    let heads = change(&both("num_attention_heads", 8.into())).unwrap();
    assert_eq!(heads.config.text.unwrap().heads, 8);
    let gelu = change(&both("hidden_act", "gelu".into())).unwrap();
    assert_eq!(gelu.config.activation, Activation::Gelu);
    // The older field wins, as in transformers.
    let older =
        change(&|json| json["text_config_dict"] = serde_json::json!({"num_attention_heads": 4}));
    assert_eq!(older.unwrap().config.text.unwrap().heads, 4);

    for (edit, parts) in [
        (
            &both("hidden_act", "gelu_new".into()) as &dyn Fn(&mut _),
            &["gelu_new"][..],
        ),
        (&both("layer_norm_eps", 1e-6.into()), &["layer_norm_eps"]),
        (&both("num_attention_heads", 7.into()), &["heads 7", "128"]),
        (
            &both("num_hidden_layers", 3.into()),
            &["layers.2", "missing"],
        ),
        (
            &both("num_hidden_layers", 1.into()),
            &["layers.1", "does not belong"],
        ),
        (
            &both("num_hidden_layers", u64::MAX.into()),
            &["layers", "1024"],
        ),
        (
            &both("hidden_size", "wide".into()),
            &["config.json", "invalid type"],
        ),
        (
            &|json: &mut serde_json::Value| json["projection_dim"] = 64.into(),
            &["text_projection.weight", "[128, 128]", "[128, 64]"],
        ),
        (
            &|json: &mut serde_json::Value| json["model_type"] = "siglip".into(),
            &["SigLIP"],
        ),
        (
            &|json: &mut serde_json::Value| json["model_type"] = "chinese_clip".into(),
            &["Chinese-CLIP"],
        ),
    ] {
        assert_says(&change(edit).unwrap_err(), parts);
    }

    let folder = copy_of_hf_clip();
    let preprocessor = folder.path().join("preprocessor_config.json");
    edit_json(&preprocessor, |json| {
        json["image_mean"] = vec![0.5; 3].into();
        json["resample"] = 2.into();
    });
    let checkpoint = open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(checkpoint.normalization.mean, [0.5; 3]);
    assert_eq!(checkpoint.normalization.std, Normalization::OPENAI.std);
    assert_eq!(checkpoint.preprocess.filter, Filter::Bilinear);
    assert!(checkpoint.warnings.is_empty());
    edit_json(&preprocessor, |json| {
        json["image_std"] = vec![0.0; 3].into()
    });
    assert_says(&error(folder.path()), &["preprocessor_config.json"]);

    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert_says(&error(folder.path()), &["without config.json"]);
    assert_says(
        &error(&folder.path().join("model.safetensors")),
        &["without their configuration"],
    );
    assert_says(
        &error(&folder.path().join("tokenizer.json")),
        &["a JSON text", "pass the folder"],
    );
}

#[test]
fn open_clip_folders_follow_their_configuration() {
    let folder = TempDir::new().unwrap();
    let weights = folder.path().join("open_clip_model.safetensors");
    fs::copy(golden("clip_vit.safetensors"), &weights).unwrap();
    let config = folder.path().join("open_clip_config.json");
    let described = serde_json::json!({
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "head_width": 32, "patch_size": 8},
            "text_cfg": {"context_length": 77, "vocab_size": 1024, "width": 128, "heads": 4, "layers": 2},
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"},
    });
    fs::write(&config, described.to_string()).unwrap();
    for path in [folder.path(), &weights] {
        let checkpoint = open(path, OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.format, Format::OpenClip);
        assert_eq!(checkpoint.config.activation, Activation::Gelu);
        assert_eq!(checkpoint.config.image, vit(32, 8, 128, 2, 4));
        assert_eq!(checkpoint.config.text.unwrap().heads, 4);
        assert_eq!(checkpoint.normalization.mean, [0.5; 3]);
        assert_eq!(checkpoint.preprocess.resize, Resize::Square(32));
        assert!(checkpoint.warnings.is_empty());
    }
    edit_json(&config, |json| {
        json["model_cfg"]["quick_gelu"] = true.into()
    });
    let checkpoint = open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(checkpoint.config.activation, Activation::QuickGelu);

    for (tower, key, value) in [
        ("vision_cfg", "timm_model_name", "vit_base"),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "pool_type", "last"),
    ] {
        fs::write(&config, described.to_string()).unwrap();
        edit_json(&config, |json| json["model_cfg"][tower][key] = value.into());
        assert_says(
            &error(folder.path()),
            &[tower, key, value, "plain vision transformer"],
        );
    }
}

// ---- Wrong files -------------------------------------------------------------------------------------------------

#[test]
fn a_file_of_another_kind_says_what_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    for (bytes, parts) in [
        (&b""[..], &["empty"][..]),
        (b"<!DOCTYPE html><html>404</html>", &["a web page"]),
        (b"\n <html lang=en>", &["a web page"]),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n",
            &["Git LFS pointer", "git lfs pull"],
        ),
        (b"\x89PNG\r\n\x1a\n....", &["a picture"]),
        (b"RIFF\0\0\0\0WEBPVP8 ", &["a picture"]),
        (b"\x1f\x8b\x08\0\0", &["compressed", "unpack"]),
        (
            b"\x80\x05]\x94.",
            &["Python pickle that torch.save did not write"],
        ),
        (b"hello", &["a text"]),
        (&[7; 100], &["unknown kind"]),
        (b"PK\x03\x04 and no more", &["damaged", "zip archive"]),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{\"", &["unknown kind"]),
        (b"\x08\0\0\0\0\0\0\0{\"a\": [}", &["damaged", "safetensors"]),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_says(&error(&path), parts);
    }
    assert_says(
        &error(&folder.path().join("absent")),
        &["absent", "No such file"],
    );
    assert_says(&error(folder.path()), &["a folder without config.json"]);

    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    archive
        .start_file(
            "word/document.xml",
            zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored),
        )
        .unwrap();
    archive.finish().unwrap();
    assert_says(
        &error(&path),
        &["a zip archive of other things", "word/document.xml"],
    );
}

#[test]
fn a_file_cut_in_half_is_damaged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("half");
    for name in [
        "clip_vit.safetensors",
        "clip_vit_jit.pt",
        "clip_vit_openclip.pt",
    ] {
        let bytes = fs::read(golden(name)).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_says(&error(&path), &["is damaged", "download or copy it again"]);
    }
    let (tensors, storages) = golden_state(str::to_owned);
    let storages: Vec<_> = storages
        .into_iter()
        .map(|bytes| (bytes.len() / 4, bytes))
        .collect();
    torch_legacy(&path, &state_dict(&tensors).op(b"u.").0, &storages);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_says(&error(&path), &["is damaged", "cut off"]);
}

fn write_shapes(path: &Path, names: &[&str]) {
    let shapes = names
        .iter()
        .map(|name| ((*name).to_owned(), vec![2]))
        .collect();
    write_sparse(path, &shapes);
}

#[test]
fn another_family_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    for (names, family) in [
        (
            &[
                "logit_bias",
                "vision_model.head.probe",
                "text_model.head.weight",
            ][..],
            "SigLIP",
        ),
        (
            &[
                "visual.trunk.blocks.0.norm1.weight",
                "text.transformer.resblocks.0.ln_1.bias",
            ],
            "timm",
        ),
        (
            &[
                "module.visual.conv1.weight",
                "module.bert.embeddings.word_embeddings.weight",
            ],
            "Chinese-CLIP",
        ),
        (
            &[
                "visual.blocks.0.attn.q_proj.weight",
                "text.token_embedding.weight",
            ],
            "EVA-CLIP",
        ),
        (
            &["text_model.embeddings.token_embedding.weight"],
            "only the text tower",
        ),
        (
            &["vision_model.embeddings.class_embedding"],
            "only the image tower",
        ),
        (&["embeddings.word_embeddings.weight"], "a BERT text model"),
        (&["h.0.attn.c_attn.weight", "wte.weight"], "GPT-2"),
        (
            &["layer1.0.conv1.weight", "fc.weight"],
            "an image classifier",
        ),
        (&["image_features", "labels"], "image features"),
        (&["ctx"], "a learned prompt"),
        (&["something"], "unknown model (something"),
    ] {
        write_shapes(&path, names);
        assert_says(&error(&path), &[family]);
    }
}

#[test]
fn a_tensor_that_is_wrong_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(golden("clip_vit.safetensors")).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |dtype, shape: &[usize], data: &'static [u8]| {
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), data).unwrap()
    };
    let write_with = |name: &str, replacement: Option<safetensors::tensor::TensorView<'_>>| {
        let mut tensors: BTreeMap<&str, _> = whole.iter().collect();
        match replacement {
            Some(tensor) => drop(tensors.insert(name, tensor)),
            None => drop(tensors.remove(name)),
        }
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    for name in [
        "ln_final.bias",
        "text_projection",
        "token_embedding.weight",
        "visual.conv1.weight",
        "transformer.resblocks.0.mlp.c_fc.weight",
    ] {
        write_with(name, None);
        assert_says(&error(&path), &[name, "missing"]);
    }
    use safetensors::Dtype;
    write_with(
        "visual.ln_pre.bias",
        Some(tensor(Dtype::F16, &[2], &[0; 4])),
    );
    assert_says(&error(&path), &["visual.ln_pre.bias", "[2]", "[128]"]);
    write_with(
        "visual.conv1.weight",
        Some(tensor(Dtype::F16, &[2], &[0; 4])),
    );
    assert_says(&error(&path), &["visual.conv1.weight", "[2]", "4 axes"]);
    write_with(
        "visual.positional_embedding",
        Some(tensor(Dtype::F16, &[4, 128], &[0; 1024])),
    );
    assert_says(&error(&path), &["visual.positional_embedding", "4 rows"]);
    write_with(
        "transformer.resblocks.0.ls_1.gamma",
        Some(tensor(Dtype::F16, &[2], &[0; 4])),
    );
    assert_says(&error(&path), &["ls_1.gamma", "does not belong"]);

    // Opening only looks at shapes; reading looks at values.
    let read = |name| {
        let weights = open(&path, OpenOptions::default()).unwrap().weights;
        assert_eq!(weights.fingerprint().is_err(), weights.read(name).is_err());
        weights.read(name).map_err(|error| error.to_string())
    };
    write_with(
        "logit_scale",
        Some(tensor(Dtype::F32, &[1], &[0, 0, 0x80, 0x3f])),
    );
    assert_eq!(read("logit_scale").unwrap(), [1.0]);
    write_with(
        "logit_scale",
        Some(tensor(Dtype::F32, &[], &[0, 0, 0xc0, 0x7f])),
    );
    assert_says(&read("logit_scale").unwrap_err(), &["logit_scale", "NaN"]);
    write_with("ln_final.bias", Some(tensor(Dtype::I8, &[128], &[0; 128])));
    assert_says(
        &read("ln_final.bias").unwrap_err(),
        &["ln_final.bias", "int8"],
    );
}

/// What the command does with a name, in a build that cannot download.
#[cfg(not(feature = "hub"))]
#[test]
fn a_hub_id_is_refused_with_what_to_do() {
    let id = "openai/clip-vit-base-patch32";
    assert_says(
        &error(Path::new(id)),
        &[id, "downloaded folder", "feature `hub`"],
    );
    // What cannot be an id is a file that is not there.
    assert!(!error(Path::new("no/such/model.pt")).contains("hub"));
}

// ---- Damage ------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Damage anywhere in what describes the tensors gives an answer or an error, never a panic.
    #[test]
    fn damaged_files_do_not_panic(
        file in 0..3usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model");
        // The pickle at the start of one, the tables at the ends of the others.
        let name = ["clip_vit.safetensors", "clip_vit_openclip.pt", "clip_rn_jit.pt"][file];
        let mut bytes = fs::read(golden(name)).unwrap();
        let described = 8_000;
        for (index, byte) in damage {
            let at = index.index(2 * described);
            let at = if at < described { at } else { bytes.len() - 2 * described + at };
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(checkpoint) = open(&path, OpenOptions::default()) {
            let _ = checkpoint.weights.fingerprint();
        }
    }

    #[test]
    fn any_bytes_are_a_pickle_or_not(
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"\x80(0N)]}te.absuRQqh\x81\x85\x86\x90\x91\x93\x94K".to_vec())],
            0..200,
        )
    ) {
        if let Ok(pickle) = Pickle::parse(&bytes) {
            for handle in pickle.handles() {
                pickle.call(handle);
                pickle.attributes(handle);
                pickle.get(handle, "a");
            }
        }
    }
}
