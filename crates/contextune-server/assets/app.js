// The page: its tabs, and the models that both of them show.

import { ask, watchServer, whenBack } from "./api.js";
import { byId, say } from "./dom.js";
import { makeTeach } from "./teach.js";
import { makeTry } from "./try.js";

const NAMES = ["try", "teach"];

const tab = (name) => byId(`tab-${name}`);
const isShown = (name) => !byId(name).hidden;

function show(name) {
  for (const other of NAMES) {
    const chosen = other === name;
    byId(other).hidden = !chosen;
    tab(other).ariaSelected = String(chosen);
    tab(other).tabIndex = chosen ? 0 : -1;
  }
  history.replaceState(null, "", name === NAMES[0] ? location.pathname : `#${name}`);
}

function moveBetweenTabs(event) {
  const here = NAMES.findIndex((name) => tab(name) === event.target);
  const there = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: -1 }[event.key];
  if (there === undefined) return;
  event.preventDefault();
  const name = NAMES.at(there % NAMES.length);
  show(name);
  tab(name).focus();
}

for (const name of NAMES) tab(name).addEventListener("click", () => show(name));
byId("tabs").addEventListener("keydown", moveBetweenTabs);

// A file that misses its place must not take the place of the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());

async function readModels() {
  const answer = await ask("v1/models");
  byId("tabs").hidden = !answer.teach;
  if (!answer.teach) show("try");
  trying.setModels(answer);
  teaching.setModels(answer);
  return answer;
}

function tryModel(name) {
  show("try");
  trying.choose(name);
}

const trying = makeTry(() => isShown("try"));
const teaching = makeTeach(() => isShown("teach"), { changed: readModels, tryModel, show: () => show("teach") });

async function start() {
  try {
    const { teach } = await readModels();
    if (!teach) return;
    if (location.hash === "#teach") show("teach");
    teaching.resume();
  } catch (error) {
    say(byId("model-error"), error.message);
  }
}

// It may have come back with other models.
whenBack(() => readModels().catch(() => {}));
start();
watchServer();
