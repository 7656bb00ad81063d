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
    /// Whether what counts is the time of the whole process, start included.
    pub whole_process: bool,
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
        /// Pictures in a step.
        batch: usize,
        position: &'static str,
        class_specific: bool,
        layers: usize,
        /// Loaded beside the text tower.
        image_tower: Option<&'static str>,
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
    /// A training step of VPT-deep in ViT-B/16.
    Vpt {
        prompts: usize,
        batch: usize,
        layers: usize,
    },
    /// A training step of a border of pixels in front of ViT-B/32.
    Pixels {
        size: usize,
        classes: usize,
        batch: usize,
    },
    /// The command `contextune`, built beside this program. WORK stands for the folder that peers share, BENCHES for the
    /// folder of this program's sources.
    Program {
        /// Scripts below `peers/` and command lines that make what is needed, before the clock runs.
        scripts: Vec<Vec<String>>,
        preparation: Vec<Vec<String>>,
        command: Vec<String>,
        /// The program does so many epochs; its time is extrapolated to so many, by the seconds that an epoch took.
        epochs: Option<(usize, usize)>,
    },
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
            batch: 32,
            position,
            class_specific,
            layers,
            image_tower: None,
        },
        whole_process: false,
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
        whole_process: false,
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
            whole_process: false,
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
            whole_process: false,
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
            whole_process: false,
            peer_factor: 1.0,
            goal: 1.0,
        });
    }
    let batch = if small { 2 } else { 32 };
    rows.push(Row {
        name: "vpt-deep",
        what: "VPT-deep step, 100 prompts in each layer of ViT-B/16, 32 pictures",
        ours: Ours::Vpt {
            prompts: 100,
            batch,
            layers,
        },
        peers: vec![words(&format!(
            "vpt_step.py --prompts 100 --batch {batch} --layers {layers} --repeats 2"
        ))],
        whole_process: false,
        peer_factor: 1.0,
        goal: 1.3,
    });
    rows.push(Row {
        name: "pixels",
        what: "step of a border of 30 pixels on ViT-B/32, 100 classes, 32 pictures; the peer encodes the texts anew",
        ours: Ours::Pixels {
            size: 30,
            classes: hundred,
            batch,
        },
        peers: vec![words(&format!(
            "pixel_step.py --size 30 --classes {hundred} --batch {batch} --repeats 2"
        ))],
        whole_process: false,
        peer_factor: 1.0,
        goal: 2.0,
    });
    if !small {
        rows.extend(whole_rows(&rows[0]));
    }
    rows
}

/// How a step of CoOp grows with classes, context length and batch, and measuring with the number of pictures. No peers.
pub fn growth() -> Vec<Row> {
    let step = |name, what, classes, context_length, batch| Row {
        name,
        what,
        ours: Ours::CoOp {
            classes,
            context_length,
            batch,
            position: "end",
            class_specific: false,
            layers: 12,
            image_tower: None,
        },
        peers: Vec::new(),
        whole_process: false,
        peer_factor: 1.0,
        goal: 0.0,
    };
    let measured = |name, what, images| Row {
        ours: Ours::Evaluate {
            classes: 1000,
            images,
            layers: 12,
        },
        ..step(name, what, 0, 0, 0)
    };
    vec![
        step("k-10", "CoOp step, K = 10, M = 16, batch 32", 10, 16, 32),
        step("k-100", "K = 100", 100, 16, 32),
        step("k-1000", "K = 1,000", 1000, 16, 32),
        step("k-10000", "K = 10,000", 10_000, 16, 32),
        step("m-4", "K = 100, M = 4", 100, 4, 32),
        step("m-64", "K = 100, M = 64", 100, 64, 32),
        step("batch-1", "K = 100, M = 16, batch 1", 100, 16, 1),
        step("batch-1600", "batch 1,600", 100, 16, 1600),
        measured(
            "images-1000",
            "K = 1,000, measured on 1,000 cached features",
            1_000,
        ),
        measured("images-10000", "on 10,000", 10_000),
        measured("images-100000", "on 100,000", 100_000),
        measured("images-1000000", "on 1,000,000: a file of 2 GB", 1_000_000),
    ]
}

/// Whole programs and whole memory; `step` is the row of a CoOp step.
fn whole_rows(step: &Row) -> Vec<Row> {
    let loop_of_published = words("coop_loop.py --repeats 2");
    let learn = "train coop --data WORK/pictures --model WORK/RN50.pt --out WORK/run --force";
    let run = |name, what, options: &str, epochs, goal| Row {
        name,
        what,
        ours: Ours::Program {
            scripts: vec![words("make_pictures.py")],
            preparation: Vec::new(),
            command: words(&format!("--quiet --no-cache {learn} --shots 16 {options}")),
            epochs,
        },
        peers: vec![loop_of_published.clone()],
        whole_process: false,
        peer_factor: 10_000.0,
        goal,
    };
    let mut memory = step.clone();
    memory.name = "memory";
    memory.what =
        "CoOp step, K = 100, with the towers of ViT-B/16 loaded; the peer has the text tower alone";
    if let Ours::CoOp { image_tower, .. } = &mut memory.ours {
        *image_tower = Some("ViT-B-16");
    }
    vec![
        memory,
        Row {
            name: "predict",
            what: "one picture, ViT-B/32 from disk, start of the program to its end; both keep what they once read in the system's cache",
            ours: Ours::Program {
                scripts: Vec::new(),
                preparation: vec![words(
                    "--quiet train zeroshot --data BENCHES/../assets/demo/icon-demo --model WORK/ViT-B-32.pt --out WORK/predict --force",
                )],
                command: words(
                    "--no-cache predict WORK/predict BENCHES/../assets/demo/icon-demo/images/fluent-3d/1f3b3.png",
                ),
                epochs: None,
            },
            peers: vec![words(
                "predict.py --classes BENCHES/class-names.txt BENCHES/../assets/demo/icon-demo/images/fluent-3d/1f3b3.png",
            )],
            whole_process: true,
            peer_factor: 1.0,
            goal: 10.0,
        },
        run(
            "run-fast",
            "CoOp, 100 classes x 16 JPEGs, RN50, recipe fast, measured on 1,000 more; the peer's step times 10,000",
            "",
            None,
            400.0,
        ),
        run(
            "run-views-8",
            "the same with the published 10,000 steps on 8 views (4 of 200 epochs run)",
            "--recipe published --views 8 --epochs 4",
            Some((4, 200)),
            20.0,
        ),
    ]
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
