// Which files are pictures, and the ways in which they get onto the page.

import { bytes } from "./dom.js";

const KNOWN = /\.(png|jpe?g|webp|gif|bmp)$/i;
const KNOWN_TYPE = /^image\/(png|jpeg|webp|gif|bmp|x-ms-bmp)$/;

// What a file dialog offers first.
export const ACCEPTED = "image/png,image/jpeg,image/webp,image/gif,image/bmp";

/** Parts files into pictures and a sentence about those that are none; the server has the last word. */
export function sorted(files, limits) {
  const pictures = [];
  const reasons = [];
  for (const file of files) {
    if (!KNOWN_TYPE.test(file.type) && !KNOWN.test(file.name)) reasons.push(`${file.name} is not a PNG, JPEG, WebP, GIF or BMP picture.`);
    else if (file.size > limits.picture_bytes) {
      reasons.push(`${file.name} has ${bytes(file.size)}; this server takes pictures of up to ${bytes(limits.picture_bytes)}.`);
    } else pictures.push(file);
  }
  const more = reasons.length - 3;
  const refused = more > 1 ? [...reasons.slice(0, 3), `And ${more} more files were left out.`] : reasons;
  return { pictures, refused: refused.join("\n") };
}

const isHidden = (name) => name.startsWith(".");

async function entries(folder) {
  const reader = folder.createReader();
  const all = [];
  // A reader hands out its entries in parts, until a part is empty.
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return all;
    all.push(...part);
  }
}

async function filesBelow(entry, folder) {
  if (isHidden(entry.name)) return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, folder }];
  }
  const found = [];
  for (const inside of await entries(entry)) found.push(...(await filesBelow(inside, entry.name)));
  return found;
}

/** Every file of a drop with the name of the folder that it lies in ("" for loose files). */
async function dropped(transfer) {
  const loose = [...transfer.files];
  const roots = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!roots.some((root) => root.isDirectory)) return loose.map((file) => ({ file, folder: "" }));
  const found = [];
  for (const root of roots) found.push(...(await filesBelow(root, "")));
  return found;
}

/** Files of a folder dialog, as `dropped` gives them. */
export function fromFolder(files) {
  return [...files]
    .filter((file) => !isHidden(file.name))
    .map((file) => ({ file, folder: file.webkitRelativePath.split("/").at(-2) ?? "" }));
}

/** Lets files be dropped on `place`; `mark` shows that they may. */
export function takeDrops(place, mark, take) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const leave = () => {
    depth = 0;
    mark.classList.remove("over");
  };
  place.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    mark.classList.add("over");
  });
  place.addEventListener("dragleave", (event) => {
    if (carriesFiles(event) && (depth -= 1) <= 0) leave();
  });
  place.addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  place.addEventListener("drop", async (event) => {
    leave();
    // A drop is taken once, by the innermost place.
    if (!carriesFiles(event) || event.defaultPrevented) return;
    event.preventDefault();
    take(await dropped(event.dataTransfer));
  });
}

/** Calls `take` with the files that a file input was given, and empties it so that the same file can come again. */
export function takeChoice(input, take) {
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    if (files.length > 0) take(files);
  });
}

/** Calls `take` with pictures that are pasted while `here()`. */
export function takePastes(here, take) {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || !here()) return;
    event.preventDefault();
    take(files);
  });
}
