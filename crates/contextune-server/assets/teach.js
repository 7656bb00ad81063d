// The second tab: pictures of a few classes become a prompt.

import { ask } from "./api.js";
import { chart } from "./chart.js";
import { byId, cross, element, percent, plural, say } from "./dom.js";
import { ACCEPTED, fromFolder, sorted, takeChoice, takeDrops, takePastes } from "./pictures.js";

const LOOK_EVERY = 300;
const FEWEST_CLASSES = 2;
const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
// A class is the name of a folder on the server.
const NOT_IN_A_CLASS = /[/\\:*?"<>|]|^\./;
const RUNNING = ["encoding", "learning"];
// The lesson that goes on when the page is loaded again.
const REMEMBERED = "contextune-lesson";

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The first name after `before` that no model has: name-1, name-2, … */
function nextName(before, taken) {
  const [, stem, last] = /^(.*?)(?:-(\d+))?$/.exec(before);
  let number = Number(last ?? 0) + 1;
  while (taken(`${stem}-${number}`)) number += 1;
  return `${stem}-${number}`;
}

/** `changed(name)` reads the models again, `tryModel(name)` shows one in the other tab. */
export function makeTeach(isShown, { changed, tryModel, show }) {
  const cards = byId("classes-taught");
  const nameField = byId("lesson-name");
  const loss = chart("Loss", { format: (value) => value.toFixed(3) });
  const accuracy = chart("Accuracy on the training pictures", {
    highest: 1,
    format: percent,
    axis: (value) => `${Math.round(100 * value)} %`,
  });

  let classes = [];
  let made = 0;
  // Where pasted pictures go.
  let lastUsed = null;
  let models = [];
  let limits = { picture_bytes: Infinity };

  byId("curves").append(loss.figure, accuracy.figure);

  const isTaken = (name) => models.some((model) => model.name === name);

  function addClass(name = "") {
    made += 1;
    const id = `class-${made}`;
    const field = element("input", {
      type: "text",
      id,
      value: name,
      placeholder: "for example bear",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      "aria-describedby": `${id}-error`,
    });
    const input = element("input", { type: "file", multiple: true, accept: ACCEPTED });
    const label = element("span", { class: "visually-hidden" });
    const drop = element("label", { class: "drop" }, input, element("span", {}, element("b", {}, "Drop pictures"), " or choose them"), label);
    const one = {
      pictures: [],
      field,
      input,
      count: element("p", { class: "count soft" }),
      error: element("p", { class: "error", id: `${id}-error`, role: "alert", hidden: true }),
      thumbnails: element("ul", { class: "thumbnails" }),
      get name() {
        return field.value.trim();
      },
    };
    one.place = element(
      "li",
      { class: "class-card", onfocusin: () => (lastUsed = one) },
      element(
        "div",
        { class: "name" },
        element("div", { class: "field" }, element("label", { for: id }, "Class name"), field),
        cross("Remove this class", () => removeClass(one)),
      ),
      drop,
      one.error,
      one.count,
      one.thumbnails,
    );
    const named = () => {
      label.textContent = one.name ? ` of ${one.name}` : "";
      one.thumbnails.setAttribute("aria-label", one.name ? `Pictures of ${one.name}` : "Pictures");
    };
    field.addEventListener("input", () => {
      complain(one);
      named();
    });
    one.named = named;
    named();
    takeChoice(input, (files) => addPictures(one, files));
    takeDrops(one.place, one.place, (found) => {
      const { folder } = found[0] ?? {};
      if (!one.name && folder) field.value = folder;
      addPictures(one, found.map(({ file }) => file));
    });
    classes.push(one);
    cards.append(one.place);
    count(one);
    return one;
  }

  function removeClass(one) {
    const next = classes[classes.indexOf(one) + 1] ?? classes[classes.indexOf(one) - 1];
    for (const picture of one.pictures) URL.revokeObjectURL(picture.address);
    classes = classes.filter((other) => other !== one);
    if (lastUsed === one) lastUsed = null;
    one.place.remove();
    (next?.field ?? byId("add-class")).focus();
  }

  function addPictures(one, files) {
    const { pictures, refused } = sorted(files, limits);
    complain(one, refused, false);
    say(byId("examples-error"));
    for (const file of pictures) {
      const picture = { file, address: URL.createObjectURL(file) };
      const image = element("img", { src: picture.address, alt: file.name, loading: "lazy", decoding: "async" });
      picture.place = element("li", { class: "thumbnail" }, image, cross(`Remove ${file.name}`, () => removePicture(one, picture)));
      one.pictures.push(picture);
      one.thumbnails.append(picture.place);
    }
    one.named();
    count(one);
  }

  function removePicture(one, picture) {
    const next = picture.place.nextElementSibling ?? picture.place.previousElementSibling;
    URL.revokeObjectURL(picture.address);
    one.pictures = one.pictures.filter((other) => other !== picture);
    picture.place.remove();
    (next?.querySelector("button") ?? one.input).focus();
    count(one);
  }

  function count(one) {
    one.count.textContent = one.pictures.length === 0 ? "No pictures yet" : plural(one.pictures.length, "picture");
  }

  /** An error in a class's card; `inName` if its name is what is wrong. */
  function complain(one, message = "", inName = message !== "") {
    say(one.error, message);
    one.field.ariaInvalid = inName ? "true" : null;
  }

  /** Pictures in folders: each folder is a class. */
  function addFolders(found) {
    const loose = found.filter(({ folder }) => folder === "");
    const folders = Map.groupBy(found.filter(({ folder }) => folder !== ""), ({ folder }) => folder);
    for (const [folder, files] of folders) {
      const { pictures } = sorted(files.map(({ file }) => file), limits);
      if (pictures.length === 0) continue;
      const one = classes.find((other) => other.name === folder) ?? classes.find((other) => !other.name && other.pictures.length === 0) ?? addClass();
      one.field.value = folder;
      addPictures(one, files.map(({ file }) => file));
    }
    say(byId("examples-error"), loose.length > 0 ? "Loose pictures belong to a class: drop them on its card." : "");
  }

  /** Says what is missing and returns the first place to put it right, or null. */
  function missing() {
    const wrong = [];
    for (const one of classes) {
      const twice = classes.some((other) => other !== one && other.name === one.name);
      if (!one.name) complain(one, "Give this class a name.");
      else if (NOT_IN_A_CLASS.test(one.name)) complain(one, 'A class name has none of / \\ : * ? " < > | and does not begin with a dot.');
      else if (twice) complain(one, "Another class has this name.");
      else if (one.pictures.length === 0) complain(one, "Add at least one picture.", false);
      else {
        complain(one);
        continue;
      }
      wrong.push(one.field.ariaInvalid ? one.field : one.input);
    }
    const few = classes.length < FEWEST_CLASSES;
    say(byId("examples-error"), few ? "At least two classes are needed." : "");
    if (few) wrong.push(byId("add-class"));
    const name = nameField.value.trim();
    let message = "";
    if (!NAME.test(name)) message = "Give a name of letters, digits, “-”, “_” and “.”.";
    else if (isTaken(name)) message = "There is already a model of this name.";
    say(byId("lesson-name-error"), message);
    nameField.ariaInvalid = message ? "true" : null;
    if (message) wrong.push(nameField);
    return wrong[0] ?? null;
  }

  async function learn(event) {
    event.preventDefault();
    say(byId("lesson-error"));
    const place = missing();
    if (place) {
      place.focus();
      return;
    }
    const name = nameField.value.trim();
    const form = new FormData(byId("lesson"));
    form.append("name", name);
    if (!byId("backbone-field").hidden) form.append("backbone", byId("backbone").value);
    for (const one of classes) for (const { file } of one.pictures) form.append(`class/${one.name}`, file, file.name);
    busy(true);
    byId("learn").textContent = "Sending the pictures …";
    try {
      await ask("v1/teach", { method: "POST", body: form, repeat: false });
    } catch (error) {
      say(byId("lesson-error"), error.message);
      busy(false);
      byId("learn").focus();
      return;
    }
    await follow(name, true);
  }

  function busy(is) {
    byId("learn").disabled = is;
    byId("learn").textContent = is ? "Learning …" : "Learn";
    byId("stop").hidden = !is;
    byId("stop").disabled = false;
  }

  /** Shows a lesson until it ends. */
  async function follow(name, moveThere) {
    sessionStorage.setItem(REMEMBERED, name);
    busy(true);
    byId("progress").hidden = false;
    byId("progress-title").textContent = name;
    byId("outcome").hidden = true;
    byId("advance").hidden = false;
    byId("curves").hidden = true;
    say(byId("progress-error"));
    byId("stop").onclick = () => stop(name);
    if (moveThere) byId("progress-title").focus();
    let lesson = null;
    try {
      for (;;) {
        lesson = await ask(`v1/teach/${encodeURIComponent(name)}`);
        draw(lesson);
        if (!RUNNING.includes(lesson.state)) break;
        await wait(LOOK_EVERY);
      }
      await changed();
    } catch (error) {
      byId("advance").hidden = true;
      say(byId("progress-error"), error.message);
    }
    sessionStorage.removeItem(REMEMBERED);
    // So would one that goes away.
    if (document.activeElement === byId("stop")) byId("progress-title").focus();
    busy(false);
    if (lesson) finish(lesson);
  }

  async function stop(name) {
    // A disabled button would lose the focus to nowhere.
    byId("progress-title").focus();
    byId("stop").disabled = true;
    try {
      await ask(`v1/teach/${encodeURIComponent(name)}`, { method: "DELETE" });
    } catch (error) {
      byId("stop").disabled = false;
      say(byId("progress-error"), error.message);
    }
  }

  function draw(lesson) {
    const { state, encoded, to_encode: toEncode, epochs_done: done, epochs, curve } = lesson;
    const bar = byId("bar");
    const encoding = state === "encoding";
    const [at, all, what] = encoding ? [encoded, toEncode, "Encoding the pictures:"] : [done, epochs, "Learning: epoch"];
    // A linear probe has no epochs, and at first nothing is counted: the bar then only moves.
    if (all > 0) [bar.max, bar.value] = [all, at];
    else bar.removeAttribute("value");
    byId("advance-label").textContent = all > 0 ? `${what} ${at} of ${all}` : `${encoding ? "Encoding the pictures" : "Learning"} …`;
    tell(encoding ? `Encoding the pictures of ${lesson.name}.` : `Learning ${lesson.name}.`);
    byId("curves").hidden = curve.length === 0;
    loss.update(curve.map(({ epoch, loss: value }) => ({ epoch, value })), epochs);
    accuracy.update(curve.map(({ epoch, accuracy: value }) => ({ epoch, value })), epochs);
  }

  /** Tells screen readers what changed, once. */
  function tell(text) {
    if (byId("state").textContent !== text) byId("state").textContent = text;
  }

  /** How a lesson ended, in a word or a few. */
  function ended({ state, epochs_done: done, epochs }) {
    if (state === "done") return "Learned";
    if (state === "failed") return "Failed";
    // A linear probe has no epochs.
    return epochs > 0 ? `Stopped after ${done} of ${plural(epochs, "epoch")}` : "Stopped";
  }

  function finish(lesson) {
    const { name, state } = lesson;
    if (RUNNING.includes(state)) return;
    byId("advance").hidden = true;
    const learned = state === "done";
    // A lesson that came to nothing leaves its name free.
    if (learned && nameField.value.trim() === name) nameField.value = nextName(name, isTaken);
    if (state === "failed") say(byId("progress-error"), lesson.error ?? "The lesson failed.");
    const model = learned && models.find((candidate) => candidate.name === name);
    // One that is stopped in its last epoch was measured all the same.
    const measured = learned && lesson.accuracy !== null;
    byId("outcome-accuracy").textContent = measured ? percent(lesson.accuracy) : ended(lesson);
    const parts = [];
    if (measured) parts.push(`Accuracy on the ${plural(lesson.held_out, "held-out picture")}.`);
    else if (learned) parts.push("Nothing was held out that it could be measured on: a class holds out every fifth picture if it has five or more.");
    else parts.push("Nothing was kept.");
    if (lesson.seconds) parts.push(`It took ${lesson.seconds.toFixed(1)} s.`);
    byId("outcome-about").textContent = parts.join(" ");
    byId("remarks").replaceChildren(...lesson.remarks.map((remark) => element("li", {}, remark)));
    for (const id of ["try-it", "download", "report", "command", "command-about"]) byId(id).hidden = !model;
    if (model) {
      const at = `v1/models/${encodeURIComponent(name)}`;
      byId("try-it").onclick = () => tryModel(name);
      byId("download").href = `${at}/prompt.safetensors`;
      byId("report").href = `${at}/report.html`;
      byId("report").hidden = !model.report;
      byId("command").textContent = `curl -F model=${name} -F picture=@holiday.jpg ${new URL("v1/predict", document.baseURI)}`;
    }
    byId("outcome").hidden = false;
    tell(`${name}: ${byId("outcome-accuracy").textContent}. ${byId("outcome-about").textContent}`);
  }

  addClass();
  addClass();
  byId("add-class").addEventListener("click", () => addClass().field.focus());
  byId("lesson").addEventListener("submit", learn);
  takeChoice(byId("folder"), (files) => addFolders(fromFolder(files)));
  takeDrops(byId("teach"), cards.closest("section"), addFolders);
  takePastes(isShown, (files) => {
    if (lastUsed) addPictures(lastUsed, files);
    else say(byId("examples-error"), "Choose the class first that the pasted picture belongs to.");
  });

  return {
    setModels(answer) {
      ({ models, limits } = answer);
      const backbones = [...new Map(models.map((model) => [model.backbone, model])).values()];
      const select = byId("backbone");
      const before = select.value;
      select.replaceChildren(...backbones.map((model) => element("option", { value: model.name }, model.backbone)));
      if (backbones.some((model) => model.name === before)) select.value = before;
      byId("backbone-field").hidden = backbones.length < 2;
      if (!nameField.value) nameField.value = nextName("prompt", isTaken);
    },
    /** Goes on with the lesson that ran when the page was left. */
    resume() {
      const name = sessionStorage.getItem(REMEMBERED);
      if (!name) return;
      show();
      follow(name, false);
    },
  };
}
