//! The rows of the benchmark: what is done, by whom it is done otherwise, and the goal.

/// Sizes to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Those of the published models.
    Published,
    /// Towers of two layers and few classes: a check that ratios have not collapsed.
    Small,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    /// What is timed.
    pub what: &'static str,
    pub ours: Ours,
    /// A script below `peers/` and its arguments; of several the fastest counts.
    pub peers: Vec<Vec<String>>,
    /// How often the peer's measured work is done in ours.
    pub peer_factor: f64,
    /// Least ratio of the peer's time to ours.
    pub goal: f64,
}

/// What our side does.
#[derive(Clone, Debug)]
pub enum Ours {
    /// A step of CoOp.
    CoOp {
        classes: usize,
        context_length: usize,
        position: &'static str,
        class_specific: bool,
        layers: usize,
    },
    /// A step of CoCoOp.
    CoCoOp {
        classes: usize,
        context_length: usize,
        batch: usize,
        layers: usize,
    },
    /// A zero-shot classifier of ImageNet's first classes in OpenAI's templates.
    Classifier { classes: usize, layers: usize },
    /// A learned prompt measured on cached features.
    Evaluate {
        classes: usize,
        images: usize,
        layers: usize,
    },
    /// An image tower's forward pass.
    ImageTower { model: &'static str, batch: usize },
}

pub fn rows(size: Size) -> Vec<Row> {
    let small = size == Size::Small;
    let layers = if small { 2 } else { 12 };
    let hundred = if small { 20 } else { 100 };
    let thousand = if small { 40 } else { 1000 };
    let coop = |name, what, classes, position, class_specific, goal| Row {
        name,
        what,
        ours: Ours::CoOp {
            classes,
            context_length: 16,
            position,
            class_specific,
            layers,
        },
        peers: vec![{
            let mut peer = words("coop_step.py --repeats 2");
            // The peer's step with 1,000 classes does not fit in memory: ten of its steps with 100 stand for it.
            peer.extend(words(&format!(
                "--classes {hundred} --context-length 16 --position {position} --layers {layers}"
            )));
            if class_specific {
                peer.push("--class-specific".into());
            }
            peer
        }],
        peer_factor: classes as f64 / hundred as f64,
        goal,
    };
    let cocoop = |name, what, batch, goal| Row {
        name,
        what,
        ours: Ours::CoCoOp {
            classes: hundred,
            context_length: 4,
            batch,
            layers,
        },
        peers: vec![words(&format!(
            "cocoop_step.py --repeats 1 --classes {hundred} --context-length 4 --batch 1 --layers {layers}"
        ))],
        peer_factor: batch as f64,
        goal,
    };
    let mut rows = vec![
        coop(
            "coop-100",
            "CoOp step, K = 100, M = 16, width 512, 12 layers",
            hundred,
            "end",
            false,
            20.0,
        ),
        coop(
            "coop-1000",
            "the same, K = 1000; the peer's step with K = 100 times ten",
            thousand,
            "end",
            false,
            20.0,
        ),
        coop(
            "coop-class-specific",
            "CoOp step, a context for each class, K = 100",
            hundred,
            "end",
            true,
            3.0,
        ),
        coop(
            "coop-middle",
            "CoOp step, class name in the middle, K = 100",
            hundred,
            "middle",
            false,
            5.0,
        ),
        cocoop(
            "cocoop-1",
            "CoCoOp step, one picture, K = 100, M = 4",
            1,
            12.0,
        ),
        cocoop(
            "cocoop-8",
            "the same, eight pictures; the peer takes them one by one",
            8,
            12.0,
        ),
        Row {
            name: "classifier",
            what: "zero-shot classifier, 100 classes in 80 templates",
            ours: Ours::Classifier {
                classes: hundred,
                layers: 12,
            },
            peers: vec![words(&format!(
                "classifier.py --classes {}",
                if small { 2 } else { 10 }
            ))],
            peer_factor: 10.0,
            goal: 5.0,
        },
        Row {
            name: "evaluate",
            what: "a CoOp prompt on 10,000 cached features, K = 1000",
            ours: Ours::Evaluate {
                classes: thousand,
                images: 10_000,
                layers,
            },
            peers: vec![words(&format!(
                "evaluate.py --classes {thousand} --images 10000 --batches 1 --warm-ups 0 --repeats 1 --layers {layers}"
            ))],
            peer_factor: 100.0,
            goal: 100.0,
        },
    ];
    for (name, what, model) in [
        (
            "image-vit-b-32",
            "image tower ViT-B/32, 32 pictures",
            "ViT-B-32",
        ),
        (
            "image-vit-b-16",
            "image tower ViT-B/16, 32 pictures",
            "ViT-B-16",
        ),
        ("image-rn50", "image tower RN50, 32 pictures", "RN50"),
    ] {
        let batch = if small { 4 } else { 32 };
        let peer = |engine| {
            words(&format!(
                "image_tower.py --model {model} --engine {engine} --batch {batch} --repeats 3"
            ))
        };
        rows.push(Row {
            name,
            what,
            ours: Ours::ImageTower { model, batch },
            peers: vec![peer("torch"), peer("onnxruntime")],
            peer_factor: 1.0,
            goal: 1.0,
        });
    }
    rows
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
