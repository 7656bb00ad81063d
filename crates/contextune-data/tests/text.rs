//! Tokenizers against the official ids, templates, and input that means no good.

mod common;

use std::fs;

use common::golden;
use contextune_data::text::{Overlong, TemplateSet, TextError, Tokenizer, TokenizerWarning};
use serde_json::{Value, json};

const OFFICIAL_SIZE: usize = 49_408;

fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn ids_are_the_official_ones() {
    let tokenizer = Tokenizer::clip(OFFICIAL_SIZE).unwrap();
    let cases = golden_json("tokenizer.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 529);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{text:?}");

        let cut = tokenizer.tokenize(text, 77, Overlong::Truncate).unwrap();
        assert_eq!(cut, ids(&case["truncated"]), "{text:?}");

        match tokenizer.tokenize(text, 77, Overlong::Refuse) {
            Ok(whole) => {
                assert_eq!(case["too_long"], json!(false), "{text:?}");
                assert_eq!(whole, cut);
            }
            Err(TextError::TooLong {
                tokens,
                context_length,
                ..
            }) => {
                assert_eq!(case["too_long"], json!(true), "{text:?}");
                assert_eq!((tokens, context_length), (expected.len() + 2, 77));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Character references, letters with unusual cases, controls, terminal escapes: made with the official code
/// (ftfy 6.3.1, Python 3.11's `html`, `regex` 2026.11.15).
#[test]
fn ids_are_the_official_ones_where_cleaning_is_hard() {
    let tokenizer = Tokenizer::clip(OFFICIAL_SIZE).unwrap();
    let cases = golden_json("tokenizer_more.json");
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(
            tokenizer.encode(text).unwrap(),
            ids(&case["ids"]),
            "{text:?}"
        );
    }
}

#[test]
fn a_vocabulary_of_any_size_spells_every_text() {
    for size in [514, 515, 1024, 20_000, OFFICIAL_SIZE] {
        let tokenizer = Tokenizer::clip(size).unwrap();
        assert_eq!(tokenizer.vocabulary_size(), size);
        assert_eq!(tokenizer.start_of_text() as usize, size - 2);
        assert_eq!(tokenizer.end_of_text() as usize, size - 1);
        let encoded = tokenizer
            .encode("Ein Bär, 日本語, 👩‍🔬 & <|endoftext|>")
            .unwrap();
        let (end, words) = encoded.split_last().unwrap();
        assert_eq!(*end, tokenizer.end_of_text());
        assert!(words.iter().all(|id| *id < tokenizer.start_of_text()));
        let spelled: String = words
            .iter()
            .map(|id| tokenizer.decode_token(*id).unwrap())
            .collect();
        assert!(spelled.starts_with("ein</w>b") || size == 514, "{spelled}");
    }
    for size in [0, 513, OFFICIAL_SIZE + 1] {
        let error = Tokenizer::clip(size).unwrap_err().to_string();
        assert!(
            error.contains(&size.to_string()) && error.contains("tokenizer.json"),
            "{error}"
        );
    }
}

#[test]
fn words_of_the_vocabulary_are_readable() {
    let tokenizer = Tokenizer::clip(OFFICIAL_SIZE).unwrap();
    let word = |id| tokenizer.decode_token(id).unwrap();
    assert_eq!(word(320), "a</w>");
    assert_eq!(word(1929), "dog</w>");
    assert_eq!(word(OFFICIAL_SIZE as u32 - 1), "<|endoftext|>");
    assert_eq!(tokenizer.decode_token(OFFICIAL_SIZE as u32), None);
    assert_eq!(word(tokenizer.encode("é").unwrap()[0]), "é</w>");
    // The bytes of an unmerged character, the first two of four.
    let symbols = Tokenizer::clip(514).unwrap();
    let bytes: Vec<String> = symbols
        .encode("𓀀")
        .unwrap()
        .into_iter()
        .map(|id| symbols.decode_token(id).unwrap())
        .collect();
    assert_eq!(bytes, ["<0xF0>", "<0x93>", "<0x80>", "<0x80></w>"]);
}

#[test]
fn the_error_for_a_long_text_names_it_shortly() {
    let tokenizer = Tokenizer::clip(OFFICIAL_SIZE).unwrap();
    let text = "a red bicycle ".repeat(100);
    let error = tokenizer
        .tokenize(&text, 77, Overlong::Refuse)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"a red bicycle") && error.contains("302") && error.contains("77"),
        "{error}"
    );
    assert!(error.len() < 300, "{error}");
    let cut = tokenizer.tokenize(&text, 5, Overlong::Truncate).unwrap();
    assert_eq!((cut.len(), cut[4]), (5, tokenizer.end_of_text()));
}

/// Each would take hours with a quadratic step, or panic in the text repair.
#[test]
fn very_long_texts_are_tokenized_in_bounded_time() {
    let tokenizer = Tokenizer::clip(OFFICIAL_SIZE).unwrap();
    let megabytes = |piece: &str, count: usize| piece.repeat((count << 20) / piece.len());
    for text in [
        megabytes("x", 10),
        megabytes("aaab", 10),
        megabytes("日", 10),
        megabytes("ñ£", 2),
        megabytes("Ã©â‚¬x中", 2),
        megabytes("Ã ", 2),
        megabytes("e\u{301}", 2),
        format!("é&{}", megabytes("amp;", 2)),
        megabytes("&", 2),
        megabytes("&#", 2),
        megabytes("\u{1b}[", 2),
        megabytes("é\n", 2),
    ] {
        let cut = tokenizer.tokenize(&text, 77, Overlong::Truncate).unwrap();
        assert!(cut.len() > 2);
    }
}

#[test]
fn a_hugging_face_tokenizer_gives_the_same_ids() {
    let own = Tokenizer::from_hugging_face(&golden("hf_clip/tokenizer.json")).unwrap();
    let clip = Tokenizer::clip(1024).unwrap();
    assert_eq!(own.warnings(), []);
    assert_eq!(own.vocabulary_size(), 1024);
    assert_eq!((own.start_of_text(), own.end_of_text()), (1022, 1023));
    assert!((0..1025).all(|id| own.decode_token(id) == clip.decode_token(id)));
    // Its normalizer knows no text repair and no character references; on plain text both agree.
    let plain = |text: &str| {
        text.chars()
            .all(|c| matches!(c, ' '..='~' | '\n' | '\t') && c != '&')
    };
    let cases = golden_json("tokenizer.json");
    let texts: Vec<&str> = cases
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["text"].as_str().unwrap())
        .filter(|text| plain(text))
        .collect();
    assert!(texts.len() > 200, "{}", texts.len());
    for text in texts
        .into_iter()
        .chain(["Crème brûlée", "日本語 Ελληνικά", "a  <|endoftext|> b"])
    {
        assert_eq!(
            own.encode(text).unwrap(),
            clip.encode(text).unwrap(),
            "{text:?}"
        );
        assert_eq!(
            own.tokenize(text, 77, Overlong::Truncate).unwrap(),
            clip.tokenize(text, 77, Overlong::Truncate).unwrap()
        );
    }
}

/// Opens the golden `tokenizer.json` after `change`.
fn open_changed(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, TextError> {
    let mut file = golden_json("hf_clip/tokenizer.json");
    change(&mut file);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, file.to_string()).unwrap();
    Tokenizer::from_hugging_face(&path)
}

#[test]
fn what_is_unusual_in_a_tokenizer_file_is_said_or_undone() {
    let text = "A photo  of a Dog.";
    let usual = Tokenizer::clip(1024).unwrap().encode(text).unwrap();

    let cuts_and_pads = open_changed(|file| {
        file["truncation"] =
            json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
        file["padding"] = json!({"strategy": {"Fixed": 77}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    })
    .unwrap();
    assert_eq!(cuts_and_pads.encode(text).unwrap(), usual);

    let bare = open_changed(|file| file["post_processor"] = Value::Null).unwrap();
    assert!(matches!(
        bare.warnings(),
        [TokenizerWarning::NoPostProcessor { .. }]
    ));
    assert_eq!((bare.start_of_text(), bare.end_of_text()), (1022, 1023));
    assert_eq!(bare.encode(text).unwrap(), usual);

    let cased = open_changed(|file| file["normalizer"] = Value::Null).unwrap();
    assert!(matches!(
        cased.warnings(),
        [TokenizerWarning::CaseMatters { .. }]
    ));
    assert!(cased.warnings()[0].to_string().contains("lower case"));

    let wrong_id =
        open_changed(|file| file["post_processor"]["sep"] = json!(["<|endoftext|>", 1000]));
    let error = wrong_id.unwrap_err().to_string();
    assert!(
        error.contains("1000") && error.contains("ordinary word"),
        "{error}"
    );

    let beyond = open_changed(|file| {
        file["post_processor"]["cls"] = json!(["<|startoftext|>", 4_000_000_000_u32])
    });
    assert!(
        beyond
            .unwrap_err()
            .to_string()
            .contains("not in its vocabulary")
    );

    let same =
        open_changed(|file| file["post_processor"]["sep"] = json!(["<|startoftext|>", 1022]));
    assert!(same.unwrap_err().to_string().contains("same id"));

    // Without the letter é, CLIP's files would write the end of text for it.
    let lacking = open_changed(|file| {
        let vocabulary = file["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.remove("©</w>");
    })
    .unwrap();
    let error = lacking.encode("café").unwrap_err().to_string();
    assert!(error.contains("café") && error.contains("lacks"), "{error}");
    assert!(lacking.encode("cafe").is_ok());
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let whole = fs::read(golden("hf_clip/tokenizer.json")).unwrap();
    let cut = &whole[..whole.len() / 2];
    let nested = "[".repeat(1 << 20);
    for bytes in [
        &b""[..],
        b"{}",
        b"[1, 2]",
        b"\xff\xfe",
        b"null",
        cut,
        nested.as_bytes(),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = Tokenizer::from_hugging_face(&path).unwrap_err().to_string();
        assert!(
            error.contains("tokenizer.json is not a usable tokenizer"),
            "{error}"
        );
    }
    let missing = folder.path().join("missing.json");
    let error = Tokenizer::from_hugging_face(&missing)
        .unwrap_err()
        .to_string();
    assert!(error.contains("missing.json"), "{error}");
}

#[test]
fn named_template_sets_have_the_published_templates() {
    let filled = |name: &str, class: &str| -> Vec<String> {
        TemplateSet::from_argument(name)
            .unwrap()
            .fill(class)
            .collect()
    };
    let eighty = filled("openai-80", "black_cat");
    assert_eq!(eighty.len(), 80);
    assert_eq!(eighty[0], "a bad photo of a black cat.");
    assert_eq!(eighty[79], "a tattoo of the black cat.");
    let seven = filled("openai-7", "black_cat");
    assert_eq!(seven.len(), 7);
    assert_eq!(seven[0], "itap of a black cat.");
    assert!(seven.iter().all(|text| eighty.contains(text)));
    assert_eq!(filled("actionclip-16", "running").len(), 16);
    assert_eq!(
        filled("oxford_pets", "Yorkshire_Terrier"),
        ["a photo of a Yorkshire Terrier, a type of pet."]
    );
    assert_eq!(filled("dtd", "dotted"), ["dotted texture."]);
    for name in TemplateSet::names() {
        let templates = TemplateSet::from_argument(name).unwrap();
        assert!(
            templates
                .templates()
                .iter()
                .all(|template| template.to_string().matches("{}").count() == 1)
        );
    }
}

#[test]
fn the_template_argument_is_a_template_a_file_or_a_name() {
    let one = TemplateSet::from_argument("  {}, seen from above").unwrap();
    assert_eq!(
        one.fill("a_b").collect::<Vec<_>>(),
        ["  a b, seen from above"]
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("templates.txt");
    let argument = path.to_str().unwrap();
    fs::write(&path, "\u{feff}a {}.\r\n\r\nthe {}.").unwrap();
    let file = TemplateSet::from_argument(argument).unwrap();
    assert_eq!(file.fill("cat").collect::<Vec<_>>(), ["a cat.", "the cat."]);

    let error_for = |contents: &[u8]| {
        fs::write(&path, contents).unwrap();
        TemplateSet::from_argument(argument)
            .unwrap_err()
            .to_string()
    };
    for (contents, expected) in [
        (
            "a {}.\nno place",
            "templates.txt, line 2: the template \"no place\" has {} 0 times",
        ),
        (
            "a {} and a {}.",
            "templates.txt, line 1: the template \"a {} and a {}.\" has {} 2 times",
        ),
        ("\n \n", "has no templates"),
    ] {
        let error = error_for(contents.as_bytes());
        assert!(error.contains(expected), "{error}");
    }
    assert!(error_for(b"a {} \xff").contains("utf-8"));
    assert!(error_for(&vec![b'a'; 2 << 20]).contains("larger"));

    let error = TemplateSet::from_argument("openai-8")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("openai-8")
            && error.contains("openai-80, openai-7")
            && error.contains("dtd"),
        "{error}"
    );
    assert!(
        TemplateSet::from_argument("{} {}")
            .unwrap_err()
            .to_string()
            .contains("2 times")
    );
}
