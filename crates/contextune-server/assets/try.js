// The first tab: pictures, and what the learned prompt and the words alone make of them.

import { ask } from "./api.js";
import { byId, bytes, cross, element, percent, plural, say } from "./dom.js";
import { ACCEPTED, sorted, takeChoice, takeDrops, takePastes } from "./pictures.js";

const STARTING_CLASSES = ["cat", "dog", "bird", "tree", "car", "house"];
const STARTING_TEMPLATE = "a photo of a {}.";
const AFTER_TYPING = 300;
const PICTURES_A_REQUEST = 16;
// What a request has besides its pictures: their names, classes, templates.
const FORM_BYTES = 64_000;

const METHODS = {
  zeroshot: "zero-shot",
  coop: "CoOp",
  cocoop: "CoCoOp",
  kgcoop: "KgCoOp",
  prograd: "ProGrad",
  "clip-adapter": "CLIP-Adapter",
  "tip-adapter": "Tip-Adapter",
  "tip-adapter-f": "Tip-Adapter-F",
  taskres: "TaskRes",
  "linear-probe": "linear probe",
  vpt: "visual prompt tuning",
  pixel: "pixel prompt",
  reprogram: "adversarial reprogramming",
};

export const methodName = (method) => METHODS[method] ?? method;

const SIDES = { learned: "What it learned", words: "Words alone" };

/** Class names as the server parts them: one a line, or commas where there is but one line. */
function classNames(text) {
  const parts = text.trim().includes("\n") ? text.split("\n") : text.split(",");
  return [...new Set(parts.map((part) => part.trim()).filter(Boolean))];
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

const same = (one, other) => one.length === other.length && one.every((value, index) => value === other[index]);

export function makeTry(isShown) {
  const select = byId("model");
  const classes = byId("classes");
  const templates = byId("templates");
  const input = byId("pictures");
  const results = byId("results");

  let models = [];
  let limits = { picture_bytes: Infinity, pictures: Infinity, request_bytes: Infinity };
  let pictures = [];
  let made = 0;
  // What was written for each model, by its name.
  const written = new Map();
  // For each side what is asked now, and how to stop it.
  const rounds = new Map();

  input.accept = ACCEPTED;
  templates.value = STARTING_TEMPLATE;

  const model = () => models.find((candidate) => candidate.name === select.value);
  const ownClasses = (of) => (of.kind === "learned" ? of.classes : STARTING_CLASSES);

  /** What each side asks the server, or what is `wrong` with it. */
  function sides() {
    const chosen = model();
    const names = classNames(classes.value);
    const words = chosen.kind === "zero-shot" ? chosen.name : chosen.zero_shot;
    const unnamed = names.length === 0 && { text: "Write at least one class name.", editors: [classes] };
    const asked = [];
    if (chosen.kind === "learned") {
      const others = chosen.takes_other_classes && !same(names, chosen.classes);
      asked.push({ side: "learned", fields: { model: chosen.name, ...(others && { classes: names }) }, wrong: others && unnamed });
    }
    if (words) {
      const patterns = lines(templates.value);
      const placeless = patterns.some((pattern) => !pattern.includes("{}")) && {
        text: "Each template needs {} where the class goes.",
        editors: [templates],
      };
      const fields = { model: words, classes: names, ...(patterns.length > 0 && { templates: patterns }) };
      asked.push({ side: "words", fields, wrong: unnamed || placeless });
    }
    return asked.map((one) => ({ ...one, key: JSON.stringify(one.fields) }));
  }

  /** Asks for every picture that has no answer to what is asked now, and drops what is no longer asked. */
  function refresh() {
    if (!model()) return;
    const asked = sides();
    for (const [side, round] of rounds) {
      if (asked.some((one) => one.side === side && one.key === round.key)) continue;
      round.controller.abort();
      rounds.delete(side);
      // What was not answered may be asked again in the same words.
      for (const picture of pictures) {
        const { place } = picture.sides[side];
        if (place.ariaBusy !== "true") continue;
        place.ariaBusy = null;
        picture.sides[side].asked = null;
      }
    }
    for (const picture of pictures) {
      for (const side of Object.keys(SIDES)) picture.sides[side].place.hidden = !asked.some((one) => one.side === side);
    }
    byId("reset").hidden = same(classNames(classes.value), ownClasses(model())) && templates.value.trim() === STARTING_TEMPLATE;
    const { wrong } = asked.find((one) => one.wrong) ?? {};
    mistake(wrong?.text, wrong?.editors);
    for (const { side, fields, key, wrong: unusable } of asked) {
      if (unusable) {
        for (const picture of pictures) unanswered(picture, side);
        continue;
      }
      if (!rounds.has(side)) rounds.set(side, { key, controller: new AbortController() });
      const { signal } = rounds.get(side).controller;
      const waiting = pictures.filter((picture) => picture.sides[side].asked !== key);
      for (const picture of waiting) {
        picture.sides[side].asked = key;
        picture.sides[side].place.ariaBusy = "true";
      }
      askInParts(side, fields, waiting, signal);
    }
    summarize();
  }

  /** Asks in requests that stay within the limits, and are small enough for answers to come one after the other. */
  async function askInParts(side, fields, waiting, signal) {
    const most = Math.min(PICTURES_A_REQUEST, limits.pictures);
    const room = limits.request_bytes - FORM_BYTES;
    let rest = waiting;
    while (rest.length > 0 && !signal.aborted) {
      let size = 0;
      const fits = (picture) => (size += picture.file.size) <= room;
      const over = rest.findIndex((picture, index) => index === most || !fits(picture));
      const part = over < 0 ? rest : rest.slice(0, over);
      await answerFor(side, fields, part, signal);
      rest = rest.slice(part.length);
    }
  }

  async function answerFor(side, fields, part, signal) {
    const form = new FormData();
    form.append("model", fields.model);
    for (const name of ["classes", "templates"]) if (fields[name]) form.append(name, fields[name].join("\n"));
    for (const picture of part) form.append("picture", picture.file, picture.file.name);
    try {
      const { predictions } = await ask("v1/predict", { method: "POST", body: form, signal });
      if (signal.aborted) return;
      part.forEach((picture, index) => show(picture, side, predictions[index]));
    } catch (error) {
      if (signal.aborted) return;
      // A picture that was read before is not what a refusal is about.
      const readBefore = part.some((picture) => picture.read);
      if (error.status === 422 && readBefore) {
        mistake(error.message, [classes, templates]);
        for (const picture of part) unanswered(picture, side);
      } else if (error.status === 422 && part.length > 1) {
        for (const picture of part) await answerFor(side, fields, [picture], signal);
      } else if (error.status === 422) {
        show(part[0], side, { error: error.message });
      } else {
        for (const picture of part) unanswered(picture, side, error.message);
      }
    }
    summarize();
  }

  /** Says what is wrong with the words, at the editors where they can be put right. */
  function mistake(message, editors = []) {
    say(byId("words-error"), message);
    for (const editor of [classes, templates]) editor.ariaInvalid = editors.includes(editor) ? "true" : null;
  }

  /** A side without an answer, for a reason that is not the picture's. */
  function unanswered(picture, side, message = "") {
    const { place, rows, error, note } = picture.sides[side];
    place.ariaBusy = null;
    rows.replaceChildren();
    note.textContent = "No answer";
    note.hidden = message !== "";
    say(error, message);
    Object.assign(picture.sides[side], { asked: null, best: null });
  }

  function show(picture, side, prediction) {
    const { place, rows, error, note } = picture.sides[side];
    place.ariaBusy = null;
    note.hidden = true;
    say(error);
    say(picture.error, prediction.error);
    picture.place.querySelector(".sides").hidden = Boolean(prediction.error);
    picture.sides[side].best = prediction.class ?? null;
    picture.read ||= !prediction.error;
    const top = prediction.top ?? [];
    // Rows stay where they are, so that their bars move to the new answer.
    while (rows.children.length > top.length) rows.lastChild.remove();
    top.forEach((guess, index) => {
      const row = rows.children[index] ?? rows.appendChild(emptyRow());
      row.querySelector(".class").textContent = guess.class;
      row.querySelector(".value").textContent = percent(guess.probability);
      row.querySelector(".bar div").style.width = `${100 * guess.probability}%`;
    });
  }

  const emptyRow = () =>
    element(
      "li",
      {},
      element("span", { class: "class" }),
      element("span", { class: "value" }),
      element("div", { class: "bar", "aria-hidden": "true" }, element("div")),
    );

  /** One sentence about all pictures, which screen readers read out. */
  function summarize() {
    const place = byId("summary");
    // The sentence waits until it can be right.
    if (results.querySelector('[aria-busy="true"]')) return;
    const shown = Object.keys(SIDES).filter((side) => rounds.has(side));
    const both = shown.length === 2;
    const answered = pictures.filter((picture) => shown.every((side) => picture.sides[side].best !== null));
    if (answered.length === 0 || shown.length === 0) place.textContent = "";
    else if (answered.length === 1) {
      const [{ file, sides: of }] = answered;
      if (!both) place.textContent = `${file.name}: ${of[shown[0]].best}.`;
      else if (of.learned.best === of.words.best) place.textContent = `${file.name}: both say ${of.words.best}.`;
      else place.textContent = `${file.name}: what it learned says ${of.learned.best}, words alone say ${of.words.best}.`;
    } else {
      const agreed = answered.filter((picture) => picture.sides.learned.best === picture.sides.words.best).length;
      const pair = `What it learned and the words agree on ${agreed} of ${plural(answered.length, "picture")}.`;
      place.textContent = both ? pair : `${plural(answered.length, "picture")} answered.`;
    }
  }

  function sideOf(title, name) {
    const rows = element("ol", { class: "bars" });
    const error = element("p", { class: "error", role: "alert", hidden: true });
    const note = element("p", { class: "soft" }, "Looking …");
    const place = element("div", { class: `side ${name}` }, element("h4", {}, title), note, error, rows);
    return { place, rows, error, note, asked: null, best: null };
  }

  function add(files) {
    const { pictures: fresh, refused } = sorted(files, limits);
    const room = Math.max(0, limits.pictures - pictures.length);
    const over = fresh.length - room;
    const full = over > 0 ? `${plural(limits.pictures, "picture")} fit here at once; ${over} were left out.` : "";
    say(byId("refused"), [refused, full].filter(Boolean).join("\n"));
    for (const file of fresh.slice(0, room)) {
      made += 1;
      const error = element("p", { class: "error", role: "alert", hidden: true });
      const picture = { file, read: false, address: URL.createObjectURL(file), sides: {}, error };
      for (const [side, title] of Object.entries(SIDES)) picture.sides[side] = sideOf(title, side);
      const image = element("img", { src: picture.address, alt: "", decoding: "async", onerror: () => image.remove() });
      const title = element("h3", { id: `picture-${made}` }, file.name);
      picture.place = element(
        "li",
        {},
        element(
          "article",
          { class: "result", "aria-labelledby": title.id },
          element("div", { class: "line" }, title, cross(`Remove ${file.name}`, () => remove(picture))),
          element("div", { class: "shown" }, image),
          element("div", {}, error, element("div", { class: "sides" }, picture.sides.learned.place, picture.sides.words.place)),
        ),
      );
      // The newest picture stands on top, where it is seen.
      results.prepend(picture.place);
      pictures.push(picture);
    }
    arrange();
    refresh();
  }

  function arrange() {
    byId("clear").hidden = pictures.length < 2;
    byId("try").classList.toggle("some", pictures.length > 0);
  }

  function remove(picture) {
    const next = picture.place.nextElementSibling ?? picture.place.previousElementSibling;
    URL.revokeObjectURL(picture.address);
    pictures = pictures.filter((other) => other !== picture);
    picture.place.remove();
    (next?.querySelector("button") ?? input).focus();
    arrange();
    summarize();
  }

  function clear() {
    for (const picture of pictures) URL.revokeObjectURL(picture.address);
    pictures = [];
    results.replaceChildren();
    say(byId("refused"));
    input.focus();
    arrange();
    summarize();
  }

  function describe() {
    const chosen = model();
    const { name, kind } = chosen;
    const facts = [
      [methodName(chosen.method), "method"],
      [chosen.backbone, "backbone"],
      chosen.accuracy !== null && [percent(chosen.accuracy), "accuracy"],
      chosen.shots !== null && [chosen.shots, "shots"],
      chosen.classes.length > 0 && [chosen.classes.length, "classes"],
      chosen.learned_numbers !== null && [chosen.learned_numbers.toLocaleString("en"), "trainable parameters"],
      chosen.prompt_bytes !== null && [bytes(chosen.prompt_bytes), "prompt"],
    ];
    const items = facts.filter(Boolean).map(([value, about]) => element("li", {}, element("b", {}, String(value)), element("span", {}, about)));
    byId("facts").replaceChildren(...items);
    const at = `v1/models/${encodeURIComponent(name)}`;
    const links = [];
    if (chosen.report) links.push(element("a", { href: `${at}/report.html`, target: "_blank", rel: "noopener" }, "Report"));
    if (chosen.prompt_bytes !== null) links.push(element("a", { href: `${at}/prompt.safetensors`, download: true }, "Download the prompt"));
    byId("model-links").replaceChildren(...links);
    byId("classes-hint").textContent = hint(chosen);
    const withWords = kind === "zero-shot" || Boolean(chosen.zero_shot);
    byId("words").hidden = !withWords && !chosen.takes_other_classes;
    templates.closest(".field").hidden = !withWords;
    byId("templates-learned").hidden = kind !== "learned";
  }

  function hint(chosen) {
    if (chosen.kind === "zero-shot") return "One a line. Nothing is learned for them: edit them and look.";
    if (chosen.takes_other_classes) return "One a line. The learned context goes with other names too: edit them and look.";
    return "One a line, for the words alone: what was learned knows only its own classes.";
  }

  function choose() {
    const chosen = model();
    const text = written.get(chosen.name) ?? ownClasses(chosen).join("\n");
    // Setting the same text would move the cursor.
    if (classes.value !== text) classes.value = text;
    describe();
    refresh();
  }

  let timer;
  for (const editor of [classes, templates]) {
    editor.addEventListener("input", () => {
      written.set(select.value, classes.value);
      clearTimeout(timer);
      timer = setTimeout(refresh, AFTER_TYPING);
    });
  }
  byId("reset").addEventListener("click", () => {
    written.delete(select.value);
    templates.value = STARTING_TEMPLATE;
    choose();
    classes.focus();
  });
  select.addEventListener("change", choose);
  byId("clear").addEventListener("click", clear);
  takeChoice(input, add);
  takeDrops(byId("try"), byId("drop"), (found) => add(found.map(({ file }) => file)));
  takePastes(isShown, add);

  return {
    /** Shows the models of the server; the one that was chosen stays. */
    setModels(answer) {
      ({ models, limits } = answer);
      const before = select.value;
      const group = (label, kind) => {
        const options = models
          .filter((candidate) => candidate.kind === kind)
          .map((candidate) => element("option", { value: candidate.name }, kind === "learned" ? `${candidate.name} (${methodName(candidate.method)})` : candidate.name));
        return options.length > 0 ? [element("optgroup", { label }, ...options)] : [];
      };
      select.replaceChildren(...group("Learned prompts", "learned"), ...group("Zero-shot", "zero-shot"));
      say(byId("model-error"), models.length === 0 ? "This server has no model." : "");
      if (models.length === 0) return;
      select.value = models.some((candidate) => candidate.name === before) ? before : models[0].name;
      choose();
    },
    choose(name) {
      select.value = name;
      choose();
      input.focus();
    },
  };
}
