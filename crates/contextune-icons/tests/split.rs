//! What the committed split file promises.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use contextune_icons::split::{Class, Role, Split};

fn committed() -> Split {
    Split::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data-recipes/icons/split.json"))
        .unwrap()
}

#[test]
fn names_and_codes_are_unique_and_counted() {
    let split = committed();
    let codes: HashSet<_> = split.concepts.iter().map(|c| &c.code).collect();
    let names: HashSet<_> = split
        .concepts
        .iter()
        .map(|c| c.name.to_lowercase())
        .collect();
    assert_eq!((codes.len(), names.len()), (1914, 1914));
    let count = |role| split.concepts.iter().filter(|c| c.role == role).count();
    assert_eq!(
        [
            Role::Pretrain,
            Role::Validation,
            Role::Retrieval,
            Role::Unused
        ]
        .map(count),
        [1554, 120, 200, 40]
    );
    assert_eq!(split.styles.len(), 6);
    assert_eq!(split.held_out_style, "fluent-3d");
}

#[test]
fn relatives_never_straddle_a_split() {
    let split = committed();
    let mut roles: HashMap<&str, Vec<Role>> = HashMap::new();
    for concept in &split.concepts {
        roles
            .entry(&concept.relatives)
            .or_default()
            .push(concept.role);
    }
    for (family, roles) in roles {
        let held_out = roles
            .iter()
            .filter(|role| matches!(role, Role::Validation | Role::Retrieval))
            .count();
        let pretrain = roles.iter().filter(|role| **role == Role::Pretrain).count();
        assert!(
            held_out <= 1 && (held_out == 0 || pretrain == 0),
            "{family}: {roles:?}"
        );
    }
}

#[test]
fn men_women_and_persons_are_relatives() {
    let split = committed();
    let people = ["200d-2640", "200d-2642"];
    let by_code = split.by_code();
    for concept in &split.concepts {
        let mut bases: Vec<String> = people
            .iter()
            .filter_map(|sign| concept.code.strip_suffix(&format!("-{sign}")))
            .map(str::to_owned)
            .collect();
        for who in ["1f468-200d-", "1f469-200d-"] {
            bases.extend(
                concept
                    .code
                    .strip_prefix(who)
                    .map(|rest| format!("1f9d1-200d-{rest}")),
            );
        }
        for base in bases.iter().filter_map(|base| by_code.get(base.as_str())) {
            assert_eq!(
                base.relatives, concept.relatives,
                "{} and {}",
                base.name, concept.name
            );
        }
    }
}

fn parts(class: &Class) -> [(&str, &Vec<String>); 3] {
    [
        ("train", &class.train),
        ("val", &class.val),
        ("test", &class.test),
    ]
}

#[test]
fn few_shot_classes_are_unseen_large_enough_and_disjoint() {
    let split = committed();
    let by_code = split.by_code();
    assert!((15..=25).contains(&split.subgroups.len()));
    for grouping in [&split.subgroups, &split.coarse] {
        let mut seen = HashSet::new();
        let names: HashSet<_> = grouping.iter().map(|class| &class.name).collect();
        assert_eq!(names.len(), grouping.len());
        for class in grouping {
            assert!(
                parts(class)
                    .iter()
                    .map(|(_, codes)| codes.len())
                    .sum::<usize>()
                    >= 12,
                "{}",
                class.name
            );
            for (part, codes) in parts(class) {
                for code in codes {
                    let concept = by_code[code.as_str()];
                    let expected = if part == "test" {
                        Role::Retrieval
                    } else {
                        Role::Validation
                    };
                    assert_eq!(concept.role, expected, "{}", concept.name);
                    assert!(
                        seen.insert(&concept.relatives),
                        "{} or a relative comes twice",
                        concept.name
                    );
                }
            }
        }
    }
    let concepts = |grouping: &[Class]| -> usize {
        grouping
            .iter()
            .flat_map(|class| parts(class).map(|(_, codes)| codes.len()))
            .sum()
    };
    assert_eq!(concepts(&split.subgroups), concepts(&split.coarse));
}

#[test]
fn the_demo_has_sixteen_shots_and_tests_on_unseen_names() {
    let split = committed();
    let by_code = split.by_code();
    let classes: HashSet<_> = split.subgroups.iter().map(|class| &class.name).collect();
    let mut seen = HashSet::new();
    for class in &split.demo {
        assert!(classes.contains(&class.name), "{}", class.name);
        assert_eq!(class.train.len(), 16, "{}", class.name);
        assert!(class.test.len() >= 6, "{}", class.name);
        let family = |code: &String| &by_code[code.as_str()].relatives;
        let shots: HashSet<_> = class.train.iter().map(family).collect();
        for code in class.val.iter().chain(&class.test) {
            let concept = by_code[code.as_str()];
            assert!(
                matches!(concept.role, Role::Validation | Role::Retrieval),
                "{} was seen",
                concept.name
            );
            assert!(
                !shots.contains(&concept.relatives),
                "{} is a relative of a shot",
                concept.name
            );
        }
        for code in parts(class).into_iter().flat_map(|(_, codes)| codes) {
            assert!(seen.insert(code), "{code} comes twice");
        }
    }
}
