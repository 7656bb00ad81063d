// Tests of the page of `contextune serve`, in a browser. README.md says how they are run.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

const URL_OF_SERVER = process.env.CONTEXTUNE_URL;
const PICTURES = process.env.CONTEXTUNE_PICTURES;
assert.ok(URL_OF_SERVER, "CONTEXTUNE_URL is the address of a running server");
assert.ok(PICTURES, "CONTEXTUNE_PICTURES is a folder with a folder of pictures for each class");

const LEARNED = "silhouettes";
const ZERO_SHOT = "zero-shot";
const PATIENCE = 60_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
let lessons = 0;

before(async () => {
  if (process.env.SCREENSHOTS) mkdirSync(process.env.SCREENSHOTS, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
});

after(() => browser?.close());

const lessonName = () => `page-test-${process.pid}-${(lessons += 1)}`;

/** Paths of the first `count` pictures of a class. */
function picturesOf(name, count) {
  const files = readdirSync(join(PICTURES, name)).filter((file) => file.endsWith(".png")).sort();
  assert.ok(files.length >= count, `${name} has ${files.length} pictures, not ${count}`);
  return files.slice(0, count).map((file) => join(PICTURES, name, file));
}

const fileOf = (name, type, bytes) => ({ name, mimeType: type, buffer: Buffer.from(bytes) });

/**
 * A test with a page of its own. Whatever it does, no request may leave the server, nothing may break the content policy,
 * and the console stays clean but for the answers in `refusals` (statuses that the test provokes).
 */
function pageTest(name, work, { refusals = [], offline = false, arrive = true, ...options } = {}) {
  test(name, { timeout: 3 * PATIENCE }, async () => {
    const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, acceptDownloads: true, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const strangers = [];
    const complaints = [];
    context.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (!["blob:", "data:"].includes(protocol) && origin !== new URL(URL_OF_SERVER).origin) strangers.push(request.url());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => {
      const text = message.text();
      const status = Number(/status of (\d+)/.exec(text)?.[1]);
      const expected = refusals.includes(status) || (offline && text.includes("net::ERR_"));
      if (["error", "warning"].includes(message.type()) && !expected) complaints.push(text);
    });
    await page.addInitScript(() => {
      window.violations = [];
      document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    });
    try {
      if (arrive) await open(page);
      await work(page, context);
      assert.deepEqual(await page.evaluate(() => window.violations), []);
      assert.deepEqual(strangers, []);
      assert.deepEqual(complaints, []);
    } catch (error) {
      await screenshot(page, `failed ${name}`);
      throw error;
    } finally {
      await context.close();
    }
  });
}

async function open(page) {
  await page.goto(URL_OF_SERVER);
  await page.locator("#model option").first().waitFor({ state: "attached" });
}

async function screenshot(page, name) {
  if (!process.env.SCREENSHOTS) return;
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name.replace(/\W+/g, "-")}.png`), fullPage: true });
}

/** The rows of both sides of the newest picture, once nothing is being asked. */
async function answers(page, place = page.locator("#results > li").first()) {
  await place.locator(".bars li").first().waitFor();
  await page.waitForFunction(() => !document.querySelector('#results [aria-busy="true"]'));
  return place.evaluate((node) => {
    const rows = (side) =>
      [...node.querySelectorAll(`.side.${side} .bars li`)].map((row) => ({
        class: row.querySelector(".class").textContent,
        value: parseFloat(row.querySelector(".value").textContent),
        width: parseFloat(row.querySelector(".bar div").style.width),
      }));
    return { learned: rows("learned"), words: rows("words") };
  });
}

function assertRows(rows, known) {
  assert.equal(rows.length, Math.min(5, known.length));
  for (const [index, row] of rows.entries()) {
    assert.ok(known.includes(row.class), `${row.class} is not among ${known}`);
    assert.ok(Math.abs(row.value - row.width) < 0.06, "bars are as long as what they say");
    assert.ok(index === 0 || row.value <= rows[index - 1].value, "the most probable class comes first");
  }
}

const learnedClasses = async (page) => (await page.locator("#classes").inputValue()).split("\n");

async function assertAccessible(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const told = violations.map(({ id, help, nodes }) => `${what}: ${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(told, []);
}

async function assertNoSideways(page, what) {
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= page.viewportSize().width, `${what} is ${width} pixels wide`);
}

/** Fills the second tab with two or three classes. */
async function fillLesson(page, classes, count, name) {
  await page.locator("#tab-teach").click();
  for (const [index, one] of classes.entries()) {
    const cards = page.locator(".class-card");
    if ((await cards.count()) <= index) await page.locator("#add-class").click();
    const card = cards.nth(index);
    await card.locator('input[type="text"]').fill(one);
    await card.locator('input[type="file"]').setInputFiles(picturesOf(one, count));
    await card.getByText(`${count} pictures`, { exact: true }).waitFor();
  }
  await page.locator("#lesson-name").fill(name);
}

pageTest("a picture that is chosen gets the answers of both sides", async (page) => {
  const known = await learnedClasses(page);
  assert.ok(known.includes("bear") && known.length === 10);
  await page.locator("#pictures").setInputFiles(picturesOf("bear", 1));
  const { learned, words } = await answers(page);
  assertRows(learned, known);
  assertRows(words, known);
  assert.notDeepEqual(learned, words);
  assert.match(await page.locator("#summary").textContent(), /both say|what it learned says/);
  assert.match(await page.locator("#facts").textContent(), /CoOp.*accuracy.*trainable parameters.*prompt/s);
  const report = await page.request.get(new URL(await page.getByRole("link", { name: "Report", exact: true }).getAttribute("href"), URL_OF_SERVER).href);
  assert.equal(report.status(), 200);
  await screenshot(page, "try");
});

pageTest("pictures that are dropped and pasted are asked for too, and can be removed", async (page) => {
  const [first, second] = ["cat", "horse"].map((name) => readFileSync(picturesOf(name, 1)[0]).toString("base64"));
  const give = (selector, kind, base64, name) =>
    page.evaluate(
      async ([selector, kind, base64, name]) => {
        const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, { type: "image/png" }));
        const place = document.querySelector(selector);
        if (kind === "paste") place.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
        else for (const step of ["dragenter", "dragover", "drop"]) place.dispatchEvent(new DragEvent(step, { dataTransfer: transfer, bubbles: true, cancelable: true }));
      },
      [selector, kind, base64, name],
    );
  await give("#drop", "drop", first, "dropped.png");
  await answers(page);
  await give("body", "paste", second, "pasted.png");
  await page.getByRole("heading", { name: "pasted.png" }).waitFor();
  await answers(page);
  assert.equal(await page.locator("#results > li").count(), 2);
  assert.match(await page.locator("#summary").textContent(), /agree on \d of 2 pictures/);
  await page.getByRole("button", { name: "Remove pasted.png" }).click();
  assert.deepEqual(await page.locator("#results h3").allTextContents(), ["dropped.png"]);
});

pageTest("edited classes and templates change the answer at once", async (page) => {
  await page.locator("#pictures").setInputFiles(picturesOf("bear", 1));
  const own = await answers(page);
  const wanted = ["bear", "bird", "rocket"];
  await page.locator("#classes").fill(wanted.join("\n"));
  await page.waitForFunction(() => document.querySelectorAll(".bars li").length === 6);
  const edited = await answers(page);
  assertRows(edited.learned, wanted);
  assertRows(edited.words, wanted);
  await page.locator("#templates").fill("a drawing of a {} in the snow.");
  await page.waitForFunction((before) => document.querySelector(".side.words .value").textContent !== before, `${edited.words[0].value.toFixed(1)} %`);
  const other = await answers(page);
  assert.deepEqual(other.learned, edited.learned, "templates are for the words alone");
  await page.locator("#templates").fill("no place for it");
  await page.getByRole("alert").filter({ hasText: "{}" }).waitFor();
  await page.locator("#classes").fill("");
  await page.getByRole("alert").filter({ hasText: "at least one class" }).waitFor();
  await screenshot(page, "words-errors");
  await page.locator("#reset").click();
  await page.waitForFunction(() => document.querySelectorAll(".bars li").length === 10);
  assert.deepEqual(await answers(page), own);
});

pageTest("an answer to what was asked before never replaces a newer one", async (page) => {
  await page.locator("#pictures").setInputFiles(picturesOf("bear", 1));
  await answers(page);
  let held = 0;
  await page.route("**/v1/predict", async (route) => {
    const isFirst = route.request().postData()?.includes("slow class");
    if (isFirst) {
      held += 1;
      await new Promise((resolve) => setTimeout(resolve, 2500));
    }
    await route.continue().catch(() => {});
  });
  await page.locator("#classes").fill("slow class\nbear");
  await page.waitForTimeout(700);
  await page.locator("#classes").fill("bear\nswift");
  await page.waitForFunction(() => document.querySelectorAll(".bars li").length === 4);
  await page.waitForTimeout(3000);
  assert.ok(held > 0);
  const { learned, words } = await answers(page);
  assertRows(learned, ["bear", "swift"]);
  assertRows(words, ["bear", "swift"]);
});

pageTest("words alone work without a learned prompt", async (page) => {
  await page.locator("#model").selectOption(ZERO_SHOT);
  assert.deepEqual(await learnedClasses(page), ["cat", "dog", "bird", "tree", "car", "house"]);
  await page.locator("#pictures").setInputFiles(picturesOf("cat", 1));
  const { learned, words } = await answers(page);
  assert.deepEqual(learned, []);
  assertRows(words, await learnedClasses(page));
  assert.equal(await page.locator(".side.learned").isVisible(), false);
});

pageTest(
  "a broken picture gives its error in its place, a file that is none is refused gently",
  async (page) => {
    const good = picturesOf("bear", 1)[0];
    const files = [
      fileOf("good.png", "image/png", readFileSync(good)),
      fileOf("broken.png", "image/png", readFileSync(good).subarray(0, 40)),
      fileOf("notes.txt", "text/plain", "notes"),
    ];
    await page.locator("#pictures").setInputFiles(files);
    await page.getByRole("alert").filter({ hasText: "notes.txt is not a" }).waitFor();
    const card = (name) => page.locator("#results > li").filter({ has: page.getByRole("heading", { name }) });
    assertRows((await answers(page, card("good.png"))).learned, await learnedClasses(page));
    await card("broken.png").getByRole("alert").filter({ hasText: "not a readable" }).waitFor();
    assert.equal(await card("broken.png").locator(".bars li").count(), 0);
    await screenshot(page, "broken-picture");
    await page.getByRole("button", { name: "Remove all" }).click();
    await page.locator("#pictures").setInputFiles([files[1]]);
    await card("broken.png").getByRole("alert").filter({ hasText: "not a readable" }).waitFor();
  },
  { refusals: [422] },
);

pageTest("names of files and classes are text, whatever is in them", async (page) => {
  const name = "<img src=x onerror=document.title='broken'>.png";
  await page.locator("#pictures").setInputFiles([fileOf(name, "image/png", readFileSync(picturesOf("bear", 1)[0]))]);
  await page.locator("#classes").fill("<b>bear</b>\n<script>document.title='broken'</script>");
  await page.waitForFunction(() => document.querySelectorAll(".bars li").length === 4);
  const { words } = await answers(page);
  assert.ok(words.some((row) => row.class === "<b>bear</b>"));
  assert.equal(await page.locator("#results h3").textContent(), name);
  assert.equal(await page.title(), "Contextune");
});

pageTest("three classes are taught, tried, downloaded and reported", async (page) => {
  const classes = ["bear", "giraffe", "sheep"];
  const name = lessonName();
  await fillLesson(page, classes, 10, name);
  await page.evaluate(() => {
    window.drawn = [];
    const look = () => {
      const points = (document.querySelector("#curves .curve")?.getAttribute("d").match(/[ML]/g) ?? []).length;
      if (points > 0) window.drawn.push(points);
    };
    new MutationObserver(look).observe(document.querySelector("#curves figure svg"), { childList: true });
  });
  await page.locator("#learn").click();
  await page.locator("#curves .curve").first().waitFor();
  await screenshot(page, "teach-in-progress");
  await page.locator("#outcome").waitFor();
  const drawn = await page.evaluate(() => window.drawn);
  assert.ok(drawn.at(-1) > 1, `a curve of ${drawn.at(-1)} points`);
  assert.deepEqual(drawn, [...drawn].sort((one, other) => one - other), "a curve only grows");
  assert.match(await page.locator("#outcome-accuracy").textContent(), /^\d+\.\d %$/);
  assert.match(await page.locator("#outcome-about").textContent(), /6 held-out pictures/);
  assert.ok((await page.locator("#command").textContent()).includes(name));
  await screenshot(page, "teach-done");

  const downloading = page.waitForEvent("download");
  await page.locator("#download").click();
  const prompt = readFileSync(await (await downloading).path());
  const header = Number(prompt.readBigUInt64LE(0));
  assert.ok(header > 0 && 8 + header < prompt.length);
  assert.equal(prompt.toString("utf8", 8, 9), "{");
  const report = await page.request.get(new URL(await page.locator("#report").getAttribute("href"), URL_OF_SERVER).href);
  assert.equal(report.status(), 200);

  await page.locator("#try-it").click();
  assert.equal(await page.locator("#tab-try").getAttribute("aria-selected"), "true");
  assert.equal(await page.locator("#model").inputValue(), name);
  assert.deepEqual((await learnedClasses(page)).sort(), classes);
  await page.locator("#pictures").setInputFiles(picturesOf("giraffe", 1));
  assertRows((await answers(page)).learned, classes);
  await screenshot(page, "try-what-was-taught");
});

pageTest("a linear probe is taught from few pictures, and keeps to its classes", async (page) => {
  const name = lessonName();
  await fillLesson(page, ["bear", "zebra"], 3, name);
  await page.getByRole("radio", { name: "Linear probe" }).check();
  await page.locator("#learn").click();
  await page.locator("#outcome").waitFor();
  assert.match(await page.locator("#outcome-about").textContent(), /Nothing was held out/);
  await page.locator("#try-it").click();
  assert.match(await page.locator("#classes-hint").textContent(), /knows only its own classes/);
  await page.locator("#classes").fill("house\ncar");
  await page.locator("#pictures").setInputFiles(picturesOf("zebra", 1));
  const { learned, words } = await answers(page);
  assertRows(learned, ["bear", "zebra"]);
  assertRows(words, ["house", "car"]);
});

pageTest("a folder of class folders fills the classes", async (page) => {
  const folder = mkdtempSync(join(tmpdir(), "contextune-page-"));
  try {
    for (const name of ["cow", "dog"]) cpSync(join(PICTURES, name), join(folder, name), { recursive: true });
    await page.locator("#tab-teach").click();
    await page.locator("#folder").setInputFiles(folder);
    await page.getByRole("list", { name: "Pictures of dog" }).waitFor();
    const names = await page.locator('.class-card input[type="text"]').evaluateAll((fields) => fields.map((field) => field.value));
    assert.deepEqual(names.sort(), ["cow", "dog"]);
    assert.equal(await page.locator(".thumbnail").count(), readdirSync(join(folder, "cow")).length + readdirSync(join(folder, "dog")).length);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

pageTest(
  "what a lesson lacks is said where it is lacking",
  async (page) => {
    await page.locator("#tab-teach").click();
    await page.locator("#learn").click();
    assert.equal(await page.getByRole("alert").filter({ hasText: "Give this class a name." }).count(), 2);
    assert.equal(await page.evaluate(() => document.activeElement.id), "class-1");
    await screenshot(page, "teach-errors");
    await page.getByRole("button", { name: "Remove this class" }).first().click();
    await page.locator("#learn").click();
    await page.getByRole("alert").filter({ hasText: "At least two classes" }).waitFor();
    await fillLesson(page, ["bear", "dog"], 2, LEARNED);
    await page.locator("#learn").click();
    await page.getByRole("alert").filter({ hasText: "already a model of this name" }).waitFor();
    await page.locator("#lesson-name").fill(lessonName());
    const broken = fileOf("broken.png", "image/png", readFileSync(picturesOf("dog", 1)[0]).subarray(0, 40));
    await page.locator('.class-card input[type="file"]').nth(1).setInputFiles([broken]);
    await page.locator("#learn").click();
    // The server may see it before the lesson begins, or say it when the lesson ends.
    await page.locator("#lesson-error, #progress-error, #remarks li").filter({ hasText: /png/i }).first().waitFor();
    await page.waitForFunction(() => !document.querySelector("#learn").disabled);
  },
  { refusals: [422] },
);

pageTest("a lesson can be stopped", async (page) => {
  const name = lessonName();
  let stopped = false;
  // The lesson is the page's view of one that would last, so that the button can be pressed in time.
  await page.route("**/v1/teach", (route) => route.fulfill({ status: 202, json: { name, status: `/v1/teach/${name}` } }));
  await page.route(`**/v1/teach/${name}`, (route) => {
    if (route.request().method() === "DELETE") {
      stopped = true;
      return route.fulfill({ status: 204 });
    }
    const state = stopped ? "stopped" : "learning";
    const curve = [1, 2, 3].map((epoch) => ({ epoch, loss: 2 / epoch, accuracy: epoch / 4 }));
    const lesson = { name, state, encoded: 4, to_encode: 4, epochs_done: 3, epochs: 60, curve, remarks: [], error: null, accuracy: null, held_out: 0, seconds: 1 };
    return route.fulfill({ json: lesson });
  });
  await fillLesson(page, ["bear", "dog"], 2, name);
  await page.locator("#learn").click();
  await page.getByText("Learning: epoch 3 of 60").waitFor();
  await screenshot(page, "teach-learning");
  await page.locator("#stop").click();
  await page.getByText("Stopped after 3 of 60 epochs", { exact: true }).waitFor();
  assert.equal(await page.locator("#try-it").isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "progress-title");
});

pageTest("everything can be done with the keyboard alone", async (page) => {
  const press = (...keys) => keys.reduce((done, key) => done.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () => page.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    for (let step = 0; step < 80; step += 1) {
      if ((await focused()) === id) return;
      await press("Tab");
    }
    assert.fail(`Tab never reaches ${id}`);
  };
  // With a listener the browser hands its dialogs over from the beginning.
  page.on("filechooser", () => {});
  const choose = async (files) => {
    const dialog = page.waitForEvent("filechooser");
    await press("Enter");
    await (await dialog).setFiles(files);
  };

  await tabTo("tab-try");
  await tabTo("model");
  await tabTo("pictures");
  const outline = await page.locator("#drop").evaluate((drop) => getComputedStyle(drop).outlineStyle);
  assert.equal(outline, "solid", "the focus is seen");
  await choose(picturesOf("bear", 1));
  await answers(page);
  await tabTo("classes");
  await press("Control+a");
  await page.keyboard.type("bear\nbus");
  await page.waitForFunction(() => document.querySelectorAll(".bars li").length === 4);

  await page.locator("#tab-try").focus();
  await press("ArrowRight");
  assert.equal(await focused(), "tab-teach");
  assert.equal(await page.locator("#teach").isVisible(), true);
  for (const [number, name] of [[1, "bear"], [2, "zebra"]]) {
    await tabTo(`class-${number}`);
    await page.keyboard.type(name);
    // The button that removes the class, then the file input.
    await press("Tab", "Tab");
    await choose(picturesOf(name, 2));
    await page.getByRole("list", { name: `Pictures of ${name}` }).getByRole("listitem").nth(1).waitFor();
  }
  await press("Tab", "Enter");
  assert.equal(await page.locator(".thumbnail").count(), 3, "the focused picture is removed");
  const name = lessonName();
  await tabTo("lesson-name");
  await press("Control+a");
  await page.keyboard.type(name);
  await press("Enter");
  await page.locator("#outcome").waitFor();
  assert.equal(await focused(), "progress-title");
  await tabTo("try-it");
  await press("Enter");
  await page.waitForFunction((wanted) => document.querySelector("#model").value === wanted, name);
  await page.waitForFunction(() => document.activeElement.id === "pictures");
});

for (const colorScheme of ["light", "dark"]) {
  pageTest(
    `axe finds nothing in ${colorScheme}`,
    async (page) => {
      await assertAccessible(page, "the first tab");
      const broken = fileOf("broken.png", "image/png", "nothing");
      await page.locator("#pictures").setInputFiles([fileOf("good.png", "image/png", readFileSync(picturesOf("bear", 1)[0])), broken]);
      await answers(page, page.locator("#results > li").nth(1));
      await page.locator("#templates").fill("no place");
      await page.getByRole("alert").filter({ hasText: "{}" }).waitFor();
      await page.waitForTimeout(500);
      await assertAccessible(page, "the first tab with results");
      await screenshot(page, `try-${colorScheme}`);
      await page.locator("#tab-teach").click();
      await page.locator("#learn").click();
      await assertAccessible(page, "the second tab with errors");
      await fillLesson(page, ["cow", "sheep"], 6, lessonName());
      await page.locator("#learn").click();
      await page.locator("#outcome").waitFor();
      await page.waitForTimeout(500);
      await assertAccessible(page, "the second tab after a lesson");
      await screenshot(page, `teach-${colorScheme}`);
    },
    { colorScheme, refusals: [422] },
  );
}

pageTest(
  "at 360 pixels nothing scrolls sideways",
  async (page) => {
    await page.locator("#pictures").setInputFiles([
      fileOf(`${"a-long-name-without-a-space".repeat(4)}.png`, "image/png", readFileSync(picturesOf("bear", 1)[0])),
    ]);
    await page.locator("#classes").fill(`${"unbreakable".repeat(12)}\nbear`);
    await page.waitForFunction(() => document.querySelectorAll(".bars li").length === 4);
    await answers(page);
    await assertNoSideways(page, "the first tab");
    await screenshot(page, "try-narrow");
    await fillLesson(page, ["cow", "sheep"], 6, `${lessonName()}-${"x".repeat(40)}`);
    await assertNoSideways(page, "the second tab");
    await page.locator("#learn").click();
    await page.locator("#outcome").waitFor();
    await assertNoSideways(page, "the second tab after a lesson");
    await screenshot(page, "teach-narrow");
  },
  { viewport: { width: 360, height: 740 } },
);

pageTest(
  "a server that asks for a token gets it",
  async (page) => {
    let admitted = false;
    await page.route("**/v1/**", (route) => (admitted ? route.continue() : route.fulfill({ status: 401, json: { error: "a token is needed" } })));
    await page.route("**/login", (route) => {
      admitted = new URLSearchParams(route.request().postData()).get("token") === "right";
      return admitted ? route.fulfill({ status: 204 }) : route.fulfill({ status: 401, json: { error: "no" } });
    });
    await page.goto(URL_OF_SERVER);
    await page.getByRole("dialog").waitFor();
    await assertAccessible(page, "the token form");
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").filter({ hasText: "not the token" }).waitFor();
    await screenshot(page, "token");
    await page.keyboard.type("right");
    await page.keyboard.press("Enter");
    await page.locator("#model option").first().waitFor({ state: "attached" });
    assert.equal(await page.getByRole("dialog").isVisible(), false);
  },
  { refusals: [401], arrive: false },
);

pageTest(
  "a full queue is asked again, and a server that went away goes on when it is back",
  async (page) => {
    let full = 3;
    await page.route("**/v1/predict", (route) =>
      (full -= 1) >= 0 ? route.fulfill({ status: 503, headers: { "retry-after": "1" }, json: { error: "the queue is full" } }) : route.continue(),
    );
    await page.locator("#pictures").setInputFiles(picturesOf("bear", 1));
    const { learned } = await answers(page);
    assertRows(learned, await learnedClasses(page));
    await page.unroute("**/v1/predict");

    const away = (route) => route.abort("connectionrefused");
    await page.route("**/*", away);
    await page.locator("#classes").fill("bear\nboat");
    await page.getByRole("alert").filter({ hasText: "The server does not answer." }).waitFor();
    await screenshot(page, "server-gone");
    await page.unroute("**/*", away);
    await page.waitForFunction(() => document.querySelectorAll(".bars li").length === 4);
    assertRows((await answers(page)).words, ["bear", "boat"]);
    assert.equal(await page.locator("#gone").isVisible(), false);
  },
  { refusals: [503], offline: true },
);

for (const colorScheme of ["light", "dark"]) {
  pageTest(
    `the report of a run can be read by everyone in ${colorScheme}`,
    async (page) => {
      const report = await page.getByRole("link", { name: "Report", exact: true }).getAttribute("href");
      await page.goto(new URL(report, URL_OF_SERVER).href);
      await page.getByRole("heading", { level: 1 }).waitFor();
      await assertAccessible(page, "the report");
      await page.setViewportSize({ width: 360, height: 740 });
      await assertNoSideways(page, "the report");
      await screenshot(page, `report-${colorScheme}`);
    },
    { colorScheme },
  );
}
